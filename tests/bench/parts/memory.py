"""Memory: at the start, after an hour's worth of readings, with every table as series, and whether it comes back."""

from __future__ import annotations

import os
import signal
import time

from agent import Agent
from bench import Bench
from definitions import all_of, write_always_due
from table import Ratio, Table, megabytes
from timing import fetch
from walks import read_first, wait_for_walks, walks, write_unbounded

TITLE = "Memory"

HOUR = 240  # readings, one in 15 seconds
PACE = 1.1


def measure(bench: Bench) -> list[Table]:
    """The usual server with the default configuration; then every table, index and sequence of another one."""
    return [_usual(bench), _everything(bench)]


def _usual(bench: Bench) -> Table:
    server, count = bench.loaded, HOUR // (12 if bench.short else 1)
    rows = []
    with bench.agent(server, lines="") as agent:
        rows.append(_row("started", agent))
        read_first(agent, server)
        rows.append(_row("after the first reading and the walk", agent))
        _read_some(bench, agent)
        rows.append(_row("after some readings more", agent))
        usual, most = agent.resident_kb(), agent.peak_kb()
    definitions = [each for each in all_of(bench) if each.scope == "server"]
    with bench.agent(server, lines="", checks=write_always_due(definitions, bench.new_folder("checks"))) as agent:
        read_first(agent, server)
        for _ in range(count):
            agent.read()
        rows.append(_row(f"after {count} readings, everything asked in each", agent))
        hour = agent.resident_kb()
        for _ in range(count):
            agent.read()
        rows.append(_row(f"after {count} more", agent))
        later = agent.resident_kb()
        for _ in range(count):
            fetch(agent.address, compressed=True)
            fetch(agent.address, "/")
            fetch(agent.address, "/checks")
        rows.append(_row(f"after {count} compressed ones, pages and verdicts", agent))
    return Table(
        "The usual server",
        ("", "Memory", "Peak", "Threads"),
        rows,
        [
            "The default configuration: with the facts of the host, and the history of counters, which is bounded and was read every 10",
            f"seconds. An hour has {HOUR} readings of 15 seconds; here they follow one another, and what is asked once per server is asked in",
            "each of them.",
        ],
        [
            Ratio("memory.default", "memory in the default configuration", usual / 1024, 12, unit="MB", readme=True),
            Ratio("memory.peak", "the most it had since it was started", most / 1024, 12, unit="MB"),
            Ratio("memory.hour", "memory after an hour's worth of readings", hour / 1024, 12, unit="MB"),
            Ratio("memory.creep", "memory after two hours' worth, by that after one", later / hour, 1.05, slack=0.02),
        ],
    )


def _everything(bench: Bench) -> Table:
    objects = 200 if bench.short else 2000
    rows = []
    checks = write_unbounded(bench)
    with bench.server(tables=objects, sequences=objects) as server, bench.agent(server) as agent:
        read_first(agent, server)
        agent.read()
        rows.append(_row("before", agent))
        before = agent.resident_kb()
        usual = agent.configuration.read_text()
        _reload(agent, f'checks = "{checks}"\n{usual}')
        _walk_anew(agent)
        samples = _read_some(bench, agent)
        rows.append(_row(f"with {samples:,} samples", agent))
        most, peak = agent.resident_kb(), agent.peak_kb()
        _reload(agent, usual)
        _walk_anew(agent)
        _read_some(bench, agent)
        rows.append(_row("after it", agent))
        after = agent.resident_kb()
    return Table(
        f"Every table, index and sequence of {objects:,} tables, and back",
        ("", "Memory", "Peak", "Threads"),
        rows,
        ["One agent: with our definitions, reloaded with such as leave nothing out, and with ours again."],
        [
            Ratio("memory.everything", f"memory with {samples:,} samples", most / 1024, 60, unit="MB"),
            Ratio("memory.everything_peak", f"the most it had with {samples:,} samples", peak / 1024, 60, unit="MB"),
            Ratio("memory.back", "memory after it, by that before", after / before, slack=0.1),
        ],
    )


def _read_some(bench: Bench, agent: Agent) -> int:
    """The samples of the last reading."""
    for _ in range(bench.rounds(10, 2)):
        time.sleep(PACE)
        samples = agent.read().samples()
    return samples


def _row(name: str, agent: Agent) -> list[str]:
    return [name, megabytes(agent.resident_kb()), megabytes(agent.peak_kb()), f"{agent.threads()}"]


def _reload(agent: Agent, configuration: str) -> None:
    agent.configuration.write_text(configuration)
    os.kill(agent.pid, signal.SIGHUP)


def _walk_anew(agent: Agent) -> None:
    """After a reload with other definitions the server is watched anew, and its walks are counted from none."""
    deadline = time.monotonic() + 10
    while walks(agent) > 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    agent.read()
    wait_for_walks(agent)
