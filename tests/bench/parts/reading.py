"""One reading, beside postgres_exporter: what it takes, what it costs the server, when it is the first, one of many, or has sizes to
count."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from agent import Agent
from bench import ROOT, Bench
from peers import Exporter, postgres_exporter
from process import Process
from server import Cost, Server
from table import Ratio, Table, megabytes, milliseconds, written
from timing import Page, alternate, fetch, median, percentile

TITLE = "One reading"

PEER, FAMILIES, ALL = "postgres_exporter", "pgvitals, the same families and more", "pgvitals, all collectors"
# Longer than what is asked in every reading is used again.
PACE = 1.2
# What an exporter shows of itself.
OWN = re.compile(r"(go|process|promhttp|postgres_exporter|pg_exporter|pg_scrape)_|pg_up$")


@dataclass(frozen=True)
class Figures:
    """A program's readings: seconds of each, and of one on average what it and the server spent; the last page."""

    seconds: Sequence[float]
    cpu_ms: float
    cost: Cost
    page: Page
    resident_kb: int

    @property
    def wall_ms(self) -> float:
        """Half of the readings took no longer."""
        return median(self.seconds) * 1000

    def row(self, name: str) -> list[str]:
        """As a line of a table."""
        cost = self.cost
        return [
            name,
            milliseconds(median(self.seconds)),
            milliseconds(percentile(self.seconds, 0.95)),
            written(self.cpu_ms, "ms"),
            written(cost.cpu_ms, "ms"),
            f"{written(cost.execution_ms, 'ms')} + {written(cost.planning_ms, 'ms')}",
            f"{cost.calls:.0f}",
            f"{self.page.samples():,}",
            f"{len(self.page.body) / 1000:,.0f} kB",
            megabytes(self.resident_kb),
        ]


COLUMNS = [
    "", "Wall, median", "Wall, p95", "CPU", "CPU of the server", "Statements: execution + planning", "Queries", "Samples", "Bytes",
    "Memory",
]  # fmt: skip


class Reader:
    """A program that takes turns with others at being read."""

    def __init__(self, server: Server, role: str, process: Process, read: Callable[[], Page]) -> None:
        self._process = process
        self._read = read
        self._page = read()
        self._meter = server.meter(role)
        self._cpu = process.cpu_ns()

    def turn(self) -> float:
        """Seconds of one reading."""
        with self._meter.turn():
            self._page = self._read()
        return self._page.seconds

    def figures(self, seconds: Sequence[float]) -> Figures:
        """What was measured since the making of this."""
        cpu = (self._process.cpu_ns() - self._cpu) / 1e6 / len(seconds)
        return Figures(seconds, cpu, self._meter.stop().each(len(seconds)), self._page, self._process.resident_kb())


@dataclass(frozen=True)
class Superset:
    """The collectors that show all that the peer shows, and the peer's names that ours has not."""

    collectors: Sequence[str]
    missing: Sequence[str]

    @property
    def query(self) -> str:
        """For the address of /metrics."""
        return "?" + "&".join(f"collect[]={name}" for name in self.collectors)


def measure(bench: Bench) -> list[Table]:
    """Cold, steady, and with sizes due."""
    server = bench.loaded
    with bench.agent(server) as agent, postgres_exporter(server, bench.new_folder("peer")) as peer:
        superset = find_superset(bench, agent, peer)
        bench.say(f"the peer's families are shown by: {' '.join(superset.collectors)}")
    cold = _cold(bench, server, superset)
    steady = _side_by_side(bench, server, superset, checks=None)
    due = _side_by_side(bench, server, superset, checks=_always_due(bench, superset.collectors))
    return [_steady_table(superset, steady), _due_table(steady, due, cold), _cold_table(cold)]


def find_superset(bench: Bench, agent: Agent, peer: Exporter) -> Superset:
    """Compares what both show, collector by collector, those first that are asked once per server."""
    wanted = {name for name in peer.read().names() if not OWN.match(name)}
    agent.read()
    labels = agent.counted("pgvitals_collector_runs_total")
    there = sorted(found[1] for label in labels if (found := re.search(r'collector="([^"]+)"', label)))
    chosen: list[str] = []
    for scope in ("server", "database"):
        shown = {name: agent.read(f"?collect[]={name}").names() for name in there if wanted and _scope(bench, name) == scope}
        while shown and wanted & shown[best := max(shown, key=lambda name: len(wanted & shown[name]))]:
            chosen.append(best)
            wanted -= shown.pop(best)
    return Superset(sorted(chosen), sorted(wanted))


def _scope(bench: Bench, collector: str) -> str:
    try:
        return tomllib.loads(bench.show(["show", collector])).get("scope", "server")
    except tomllib.TOMLDecodeError:
        return "host"


def _always_due(bench: Bench, collectors: Iterable[str]) -> Path:
    """A folder with definitions of those that are asked every 15 minutes or less often, to be asked in every reading."""
    folder = bench.new_folder("checks")
    for name in collectors:
        text = bench.show(["show", name])
        definition = tomllib.loads(text)
        if definition.get("scope", "server") == "server" and definition.get("fresh_for") in ("15min", "1h"):
            (folder / f"{name}.toml").write_text(re.sub(r'(?m)^fresh_for = .*$', 'fresh_for = "1ms"', text, count=1))
    return folder


def _side_by_side(bench: Bench, server: Server, superset: Superset, checks: Path | None) -> dict[str, Figures]:
    rounds = bench.rounds(40, 4)
    bench.say(f"{rounds} rounds, {'with sizes due' if checks else 'steady'}")
    with ExitStack() as stack:
        peer = stack.enter_context(postgres_exporter(server, bench.new_folder("peer")))
        families = stack.enter_context(bench.agent(server, role="families", checks=checks))
        everything = stack.enter_context(bench.agent(server, checks=checks))
        families.read(superset.query)
        everything.read()  # waits for the walk over all databases, which then rests
        readers = {
            PEER: Reader(server, "exporter", peer, peer.read),
            FAMILIES: Reader(server, "families", families, lambda: families.read(superset.query)),
            ALL: Reader(server, "monitor", everything, everything.read),
        }
        taken = alternate({name: reader.turn for name, reader in readers.items()}, rounds, PACE)
        return {name: reader.figures(taken[name]) for name, reader in readers.items()}


def _cold(bench: Bench, server: Server, superset: Superset) -> dict[str, Figures]:
    """The first reading after a start; CPU is all since the start."""
    rounds = bench.rounds(8, 2)
    bench.say(f"{rounds} rounds, cold")
    starts: dict[str, tuple[str, Callable[[], Process], str]] = {
        PEER: ("exporter", lambda: postgres_exporter(server, bench.new_folder("peer")), "/metrics"),
        FAMILIES: ("families", lambda: bench.agent(server, role="families"), f"/metrics{superset.query}"),
        ALL: ("monitor", lambda: bench.agent(server), "/metrics"),
    }
    seen: dict[str, list[Figures]] = {name: [] for name in starts}
    for _ in range(rounds):
        for name, (role, start, path) in starts.items():
            seen[name].append(_first_reading(server, role, start, path))
    return {name: _mean(figures) for name, figures in seen.items()}


def _first_reading(server: Server, role: str, start: Callable[[], Process], path: str) -> Figures:
    meter = server.meter(role)
    with meter.turn():
        with start() as process:
            page = fetch(getattr(process, "address"), path)
            cpu, resident = process.cpu_ns() / 1e6, process.resident_kb()
    return Figures([page.seconds], cpu, meter.stop(), page, resident)


def _mean(figures: Sequence[Figures]) -> Figures:
    count = len(figures)
    names = ("calls", "execution_ms", "planning_ms", "rows", "cpu_ms")
    cost = Cost(**{name: sum(getattr(each.cost, name) for each in figures) / count for name in names})
    last = figures[-1]
    return Figures(
        [each.seconds[0] for each in figures], sum(each.cpu_ms for each in figures) / count, cost, last.page, last.resident_kb
    )


def _steady_table(superset: Superset, steady: dict[str, Figures]) -> Table:
    peer, families, everything = (steady[name] for name in (PEER, FAMILIES, ALL))
    by_execution = everything.wall_ms / everything.cost.execution_ms
    return Table(
        "Steady",
        COLUMNS,
        [figures.row(name) for name, figures in steady.items()],
        [
            "CPU of the server is that of the backends as the kernel counts it: of those that live, read from them; of those that lived",
            "for one reading, as postgres_exporter's do, what the postmaster is told at their end; and the postmaster's own for making",
            "them. Statements are what `pg_stat_statements` counts, which is neither parsing nor the way there and back.",
            "",
            f"The same families and more: {', '.join(f'`{name}`' for name in superset.collectors)}, found by comparing the pages;",
            "tables are read in all databases, by postgres_exporter in one. All collectors: the default, without host and history.",
            _missing(superset),
        ],
        [
            _against("reading.wall", "a steady reading, wall", families.wall_ms, peer.wall_ms, 0.25, readme=True),
            _against("reading.cpu", "a steady reading, CPU of the program", families.cpu_ms, peer.cpu_ms, 0.25, readme=True),
            _against(
                "reading.server_statements",
                "a steady reading, statements on the server",
                families.cost.statements_ms,
                peer.cost.statements_ms,
                1 / 3,
                readme=True,
            ),
            _against(
                "reading.server_cpu", "a steady reading, CPU of the server", families.cost.cpu_ms, peer.cost.cpu_ms, 1 / 3, readme=True
            ),
            _against("reading.all_wall", "a steady reading of all collectors, wall", everything.wall_ms, peer.wall_ms),
            _against("reading.all_cpu", "a steady reading of all collectors, CPU of the program", everything.cpu_ms, peer.cpu_ms),
            _against(
                "reading.all_server_cpu",
                "a steady reading of all collectors, CPU of the server",
                everything.cost.cpu_ms,
                peer.cost.cpu_ms,
            ),
            Ratio(
                "reading.wall_by_execution",
                "a steady reading of all collectors, wall, by the execution time of its statements",
                by_execution,
                1.3,
                ours=written(everything.wall_ms, "ms"),
                peer=written(everything.cost.execution_ms, "ms"),
            ),
            Ratio(
                "reading.wall_by_server_cpu",
                "a steady reading of all collectors, wall, by the server's CPU for it",
                everything.wall_ms / everything.cost.cpu_ms,
                ours=written(everything.wall_ms, "ms"),
                peer=written(everything.cost.cpu_ms, "ms"),
            ),
        ],
    )


def _due_table(steady: dict[str, Figures], due: dict[str, Figures], cold: dict[str, Figures]) -> Table:
    peer, families = due[PEER], due[FAMILIES]
    hour = [_over_an_hour(steady[FAMILIES], families, cold[FAMILIES], value) for value in (_cpu, _server_cpu, _statements)]
    others = [value(steady[PEER]) for value in (_cpu, _server_cpu, _statements)]
    names = ("reading.hour_cpu", "reading.hour_server_cpu", "reading.hour_server_statements")
    texts = ("CPU of the program", "CPU of the server", "statements on the server")
    average = [f"{FAMILIES}, over an hour", "", "", *(written(each, "ms") for each in hour), "", "", "", ""]
    return Table(
        "With sizes due",
        COLUMNS,
        [*(figures.row(name) for name, figures in due.items()), average],
        [
            "Sizes of databases and tablespaces, which ours counts every 15 minutes and postgres_exporter in every reading, are due in",
            "each of these. The last line is computed: of 240 readings in an hour, one every 15 seconds, 4 with sizes due, and 60 walks",
            "over all databases; a walk is what the first reading costs beyond one with sizes due.",
        ],
        [
            _against("reading.due_wall", "a reading with sizes due, wall", families.wall_ms, peer.wall_ms, 1.0, readme=True),
            _against("reading.due_cpu", "a reading with sizes due, CPU of the program", families.cpu_ms, peer.cpu_ms, 1.0),
            _against(
                "reading.due_server_cpu",
                "a reading with sizes due, CPU of the server",
                families.cost.cpu_ms,
                peer.cost.cpu_ms,
                1.0,
            ),
            _against(
                "reading.due_server_statements",
                "a reading with sizes due, statements on the server",
                families.cost.statements_ms,
                peer.cost.statements_ms,
                1.0,
            ),
            *(
                _against(name, f"a reading over an hour, {text}", ours, theirs)
                for name, text, ours, theirs in zip(names, texts, hour, others, strict=True)
            ),
        ],
    )


def _cold_table(cold: dict[str, Figures]) -> Table:
    return Table(
        "Cold",
        COLUMNS,
        [figures.row(name) for name, figures in cold.items()],
        [
            "The first reading after a start, with all CPU since the start. Ours waits for the first walk over all 12 databases, where",
            "postgres_exporter reads one.",
        ],
        [_against("reading.cold_wall", "the first reading, wall", cold[FAMILIES].wall_ms, cold[PEER].wall_ms)],
    )


def _against(
    name: str, text: str, ours: float, peer: float, goal: float | None = None, *, readme: bool = False
) -> Ratio:
    """Milliseconds of ours by the peer's."""
    return Ratio(name, text, ours / peer, goal, ours=written(ours, "ms"), peer=written(peer, "ms"), readme=readme)


def _over_an_hour(steady: Figures, due: Figures, cold: Figures, value: Callable[[Figures], float]) -> float:
    walk = max(0.0, value(cold) - value(due))
    return (236 * value(steady) + 4 * value(due) + 60 * walk) / 240


def _cpu(figures: Figures) -> float:
    return figures.cpu_ms


def _server_cpu(figures: Figures) -> float:
    return figures.cost.cpu_ms


def _statements(figures: Figures) -> float:
    return figures.cost.statements_ms


def _missing(superset: Superset) -> str:
    documented = (ROOT / "docs" / "postgres_exporter.md").read_text()
    unknown = [f"`{name}`" for name in superset.missing if f"`{name}`" not in documented]
    known = [f"`{name}`" for name in superset.missing if f"`{name}`" in documented]
    told = f"Left out, [as documented](postgres_exporter.md): {', '.join(known)}. " if known else ""
    return told + (f"**Not here**: {', '.join(unknown)}." if unknown else "Nothing else of its families is missing.")
