"""collectd's plugin for PostgreSQL, which reads on a beat of its own, beside readings of ours on the same server."""

from __future__ import annotations

import time
from pathlib import Path

import peers
from bench import Bench
from figures import Spent
from process import Process
from server import PORT, Cost, Server
from table import Ratio, Table, megabytes, written

TITLE = "Beside collectd"
SHORT = False  # beats cannot be hurried

INTERVAL = 1.0
# The plugin's default queries.
QUERIES = 7


def measure(bench: Bench) -> Table:
    """Both in turn: collectd cannot be asked when to read."""
    server = bench.loaded
    databases = [str(row[0]) for row in server.sql("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1")]
    other, row_of_other = _collectd(bench, server, databases)
    ours, row_of_ours = _pgvitals(bench, server)
    return Table(
        f"A beat of collectd's postgresql plugin in {len(databases)} databases",
        ("", "CPU", "CPU of the server", "Statements", "Queries", "Samples", "Memory", "Its sessions' memory"),
        [row_of_other, row_of_ours],
        [
            f"collectd asks its {QUERIES} default queries in every database at every beat, and keeps a session in each.",
            "It measures the size of each database then, and adds what it finds of the tables of one up. It writes CSV here.",
        ],
        [
            _ratio("cpu", "CPU of the program", ours.cpu, other.cpu),
            _ratio("server_cpu", "CPU of the server", ours.server_cpu, other.server_cpu),
        ],
    )


def _collectd(bench: Bench, server: Server, databases: list[str]) -> tuple[Spent, list[str]]:
    folder, beats = bench.new_folder("collectd"), bench.rounds(20, 5)
    bench.say("collectd")
    with peers.collectd(folder, _configuration(server, databases, folder / "values"), interval=INTERVAL) as collectd:
        collectd.wait_for("its sessions", lambda: True if len(server.backends("exporter")) == len(databases) else None)
        time.sleep(2 * INTERVAL)
        before = collectd.cpu_ns()
        with server.spent("exporter") as cost:
            time.sleep(beats * INTERVAL)
        spent = _spent(collectd.cpu_ns() - before, cost, beats)
        samples = _values(folder / "values")
        return spent, _row("collectd", spent, cost.calls / beats, samples, collectd, server.sessions_kb("exporter"))


def _pgvitals(bench: Bench, server: Server) -> tuple[Spent, list[str]]:
    beats = bench.rounds(20, 5)
    bench.say("pgvitals")
    with bench.agent(server) as agent:
        page = agent.read()
        agent.wait_for_walk()
        before = agent.cpu_ns()
        with server.spent() as cost:
            for _ in range(beats):
                time.sleep(1.1 * INTERVAL)  # longer than what is asked in every reading is used again
                page = agent.read()
        spent = _spent(agent.cpu_ns() - before, cost, beats)
        row = _row("pgvitals, all collectors", spent, cost.calls / beats, page.samples(), agent, server.sessions_kb("monitor"))
        return spent, row


def _configuration(server: Server, databases: list[str], values: Path) -> str:
    place = f'Host "{server.folder}"\nPort "{PORT}"\nUser "exporter"\nSSLMode "disable"\n'
    watched = "".join(f"<Database {name}>\n{place}</Database>\n" for name in databases)
    return (
        "LoadPlugin postgresql\nLoadPlugin csv\n"
        f'<Plugin csv>\nDataDir "{values}"\nStoreRates false\n</Plugin>\n'
        f"<Plugin postgresql>\n{watched}</Plugin>"
    )


def _values(folder: Path) -> int:
    """How many values a beat has: the columns of all files, but for the times."""
    return sum(path.read_text().split("\n", 1)[0].count(",") for path in folder.rglob("*") if path.is_file())


def _spent(cpu_ns: int, cost: Cost, beats: int) -> Spent:
    return Spent(cpu_ns / 1e6, cost.cpu_ms, cost.statements_ms).times(1 / beats)


def _row(name: str, spent: Spent, queries: float, samples: int, process: Process, sessions_kb: int) -> list[str]:
    times = [written(value, "ms") for value in (spent.cpu, spent.server_cpu, spent.statements)]
    return [name, *times, f"{queries:.0f}", f"{samples:,}", megabytes(process.resident_kb()), megabytes(sessions_kb)]


def _ratio(key: str, text: str, ours: float, other: float) -> Ratio:
    what = f"a reading of all collectors, against a beat of collectd, {text}"
    return Ratio(f"collectd.{key}", what, ours / other, ours=written(ours, "ms"), peer=written(other, "ms"))
