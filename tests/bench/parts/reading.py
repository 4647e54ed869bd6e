"""One reading, beside postgres_exporter: what it takes and costs the server when it is the first, one of many, or has sizes to
count."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import definitions
from agent import Agent
from bench import ROOT, Bench
from definitions import Definition
from figures import COLUMNS, SPENT, Figures, Reader, Spent, mean
from floor import Floor, Roles, Taken, clock
from peers import Exporter, postgres_exporter
from server import Cost, Server
from table import Ratio, Table, written
from timing import alternate, fetch, median

TITLE = "One reading"

PEER, FAMILIES, ALL = "postgres_exporter", "pgvitals, the same families and more", "pgvitals, all collectors"
# The roles by which the server tells their cost apart.
ROLES = {PEER: "exporter", FAMILIES: "families", ALL: "monitor"}
# Longer than what is asked in every reading is used again.
PACE = 1.1
# What an exporter shows of itself.
OWN = re.compile(r"(go|process|promhttp|postgres_exporter|pg_exporter|pg_scrape)_|pg_up$")
# What a walk over the databases asks, by the times for which it is used again; and how many of each an hour has at most.
WALKS = {60: 48, 300: 8, 3600: 4}
WALK = "walk "

Contest = dict[str, Figures]


@dataclass(frozen=True)
class Superset:
    """The collectors that show all that the peer shows, and the peer's names that ours has not."""

    collectors: Sequence[str]
    missing: Sequence[str]

    @property
    def query(self) -> str:
        """For the address of /metrics."""
        return definitions.query(self.collectors)


def measure(bench: Bench) -> list[Table]:
    """Cold, steady, and with sizes due."""
    server, catalog = bench.loaded, definitions.all_of(bench)
    with bench.agent(server) as agent, postgres_exporter(server, bench.new_folder("peer")) as peer:
        superset = find_superset(catalog, agent, peer)
    bench.say(f"the peer's families are shown by: {' '.join(superset.collectors)}")
    cold = _cold(bench, server, superset, catalog)
    steady = _side_by_side(bench, "steady", superset, _checks(bench, catalog, due=0), PACE)
    bench.say("by the server's log, and beside a bare client")
    kept = definitions.write(catalog, bench.new_folder("checks"), "1h")
    roles = Roles(plain=ROLES[ALL], bare=ROLES[PEER], logged=ROLES[FAMILIES])
    floor = clock(bench, _checks(bench, catalog, due=0), kept, roles, PACE)
    packed = _side_by_side(bench, "compressed", superset, _checks(bench, catalog, due=0), PACE, compressed=True)
    minute = _side_by_side(bench, "as once a minute", superset, _checks(bench, catalog, due=60))
    due = _side_by_side(bench, "with sizes due", superset, _checks(bench, catalog, due=3600))
    sizes = {name: server.executed(ROLES[name], "pg_database_size") for name in due}
    return [
        _steady_table(superset, steady),
        _floor_table(floor, steady[ALL]),
        _packed_table(packed),
        _due_table(due, sizes),
        _hour_table(minute, due, cold),
        _cold_table(cold),
    ]


def find_superset(catalog: Sequence[Definition], agent: Agent, peer: Exporter) -> Superset:
    """Compares what both show, collector by collector, those first that are asked once per server."""
    wanted = {name for name in peer.read().names() if not OWN.match(name)}
    agent.read()
    agent.wait_for_walk()
    chosen: list[str] = []
    for scope in ("server", "database"):
        there = [each.name for each in catalog if wanted and each.scope == scope]
        shown = {name: agent.read(definitions.query([name])).names() for name in there}
        while shown and wanted & shown[best := max(shown, key=lambda name: len(wanted & shown[name]))]:
            chosen.append(best)
            wanted -= shown.pop(best)
    return Superset(sorted(chosen), sorted(wanted))


def _checks(bench: Bench, catalog: Sequence[Definition], due: float) -> Path:
    """Definitions by which all is due in every reading that is used again for so many seconds or less; but no second walk over the
    databases comes between: its sessions would be taken for another program's."""
    folder = bench.new_folder("checks")
    definitions.write((each for each in catalog if each.scope == "database"), folder, "1h")
    return definitions.write_always_due((each for each in catalog if each.scope == "server" and each.seconds <= due), folder)


def _side_by_side(
    bench: Bench, how: str, superset: Superset, checks: Path, pace: float = 0, *, compressed: bool = False
) -> Contest:
    bench.say(how)
    server = bench.loaded
    with ExitStack() as stack:
        peer = stack.enter_context(postgres_exporter(server, bench.new_folder("peer")))
        families = stack.enter_context(bench.agent(server, role=ROLES[FAMILIES], checks=checks))
        everything = stack.enter_context(bench.agent(server, role=ROLES[ALL], checks=checks))
        families.read(superset.query)
        everything.read()
        everything.wait_for_walk()
        readers = {
            PEER: Reader(server, ROLES[PEER], peer, lambda: peer.read(compressed=compressed)),
            FAMILIES: Reader(server, ROLES[FAMILIES], families, lambda: families.read(superset.query, compressed=compressed)),
            ALL: Reader(server, ROLES[ALL], everything, lambda: everything.read(compressed=compressed)),
        }
        turns = {name: reader.turn for name, reader in readers.items()}
        taken = alternate(turns, bench.rounds(40, 3), pace)
        return {name: reader.figures(taken[name]) for name, reader in readers.items()}


def _cold(bench: Bench, server: Server, superset: Superset, catalog: Sequence[Definition]) -> Contest:
    """The first reading after a start; CPU is all since the start."""
    bench.say("cold")
    role = ROLES[ALL]
    starts: dict[str, tuple[str, Callable[[], Exporter | Agent], str]] = {
        PEER: (ROLES[PEER], lambda: postgres_exporter(server, bench.new_folder("peer")), ""),
        FAMILIES: (ROLES[FAMILIES], lambda: bench.agent(server, role=ROLES[FAMILIES]), superset.query),
        ALL: (role, lambda: bench.agent(server, role=role), ""),
        "nothing": (role, lambda: bench.agent(server, role=role), definitions.query(["server"])),
    }
    for seconds in WALKS:
        walked = [each.name for each in catalog if each.scope == "database" and each.seconds <= seconds]
        starts[_walk(seconds)] = (role, lambda: bench.agent(server, role=role), definitions.query(walked))
    seen: dict[str, list[Figures]] = {name: [] for name in starts}
    for _ in range(bench.rounds(6, 1)):
        for name, (whose, start, path) in starts.items():
            walks = name == ALL or name.startswith(WALK)
            seen[name].append(_first_reading(server, whose, start, path, walks=walks))
    return {name: mean(figures) for name, figures in seen.items()}


def _first_reading(server: Server, role: str, start: Callable[[], Exporter | Agent], query: str, *, walks: bool) -> Figures:
    meter = server.meter(role)
    with meter.turn(), start() as process:
        page = fetch(process.address, f"/metrics{query}")
        if walks and isinstance(process, Agent):
            process.wait_for_walk()
        cpu, resident = process.cpu_ns() / 1e6, process.resident_kb()
    return Figures([page.seconds], cpu, meter.stop(), page, resident)


def _walk(seconds: int) -> str:
    return f"{WALK}{seconds}"


def _steady_table(superset: Superset, steady: Contest) -> Table:
    peer, families, everything = (steady[name] for name in (PEER, FAMILIES, ALL))
    goals = (1 / 4, 1 / 3, 1 / 3)
    return Table(
        "Steady",
        COLUMNS,
        [figures.row(name) for name, figures in steady.items()],
        [
            "CPU of the server is that of the backends as the kernel counts it: of those that live, read from them; of those that",
            "lived for one reading, as postgres_exporter's do, what the postmaster is told at their end; and the",
            "postmaster's own for",
            "making them.",
            "Statements are what `pg_stat_statements` counts, which is neither parsing nor the way there and back.",
            "Memory of its sessions is what only these have, between readings.",
            "",
            f"The same families and more: {', '.join(f'`{name}`' for name in superset.collectors)}, found by comparing the pages.",
            f"All collectors: the default, without host and history; what is in databases was read before. {_missing(superset)}",
        ],
        [
            _against("reading.wall", "a steady reading, wall", families.wall_ms, peer.wall_ms, 1 / 4, readme=True),
            *_of_spent("reading", "a steady reading", families.spent, peer.spent, goals, readme=True),
            _against("reading.all_wall", "a steady reading of all collectors, wall", everything.wall_ms, peer.wall_ms),
            *_of_spent("reading.all", "a steady reading of all collectors", everything.spent, peer.spent),
        ],
    )


def _floor_table(floor: Floor, everything: Figures) -> Table:
    ours, bare, execution_ms = floor.ours, floor.bare, everything.cost.execution_ms
    both_ms = bare.wall_ms + floor.page_ms
    hint = f"; a bare client takes {written(bare.wall_ms, 'ms')}"
    return Table(
        "Steady, by what the server takes for it",
        ("", "Wall, median", "Its log", "`pg_stat_statements`", "CPU of the server", "Wall by its log", "Wall by the bare client's"),
        [
            _taken_row(ALL, ours, execution_ms, bare.wall_ms),
            _taken_row("a bare client that asks the same", bare, floor.bare_execution_ms, bare.wall_ms),
            ["pgvitals, all collectors, nothing due", written(floor.page_ms, "ms"), *[""] * 5],
            ["pgvitals, `collect[]=server`, nothing due", written(floor.little_ms, "ms"), *[""] * 5],
        ],
        [
            "Its log has the duration of each message (`log_min_duration_statement = 0`), from its arrival until the last row is on",
            "its way: parsing, analysis, planning, starting and ending execution, and sending.",
            "`pg_stat_statements` has the execution alone, which of small questions is the smaller part.",
            "It is the average of all readings; the others are medians, which leave out the few with more that is due.",
            "The log is that of another session, in turn with the one whose wall it is: while a log is written, a reading takes",
            f"{written(floor.while_logged_ms, 'ms')}.",
            "",
            f"The bare client sends the {floor.statements} statements of a steady reading, found in the log and prepared as ours are,",
            "in one write, and throws the answers away unread. Nobody gets them much sooner, and it has no page to write.",
            "Nothing due: the probe alone is asked, and the page is made of what is there.",
            f"The bare client and the whole page take {written(both_ms, 'ms')} together, a reading {written(ours.wall_ms, 'ms')}.",
            "What a reading has more is reading the rows and waking up in between; what it has less is done at the same time.",
        ],
        [
            _by_server("reading.wall_by_log", "what the server logs as its durations", ours.wall_ms, ours.logged_ms, 1.3, hint),
            _by_server("reading.wall_by_bare", "a bare client that asks the same", ours.wall_ms, bare.wall_ms),
            _by_server("reading.wall_by_bare_and_page", "that client and a page with nothing due", ours.wall_ms, both_ms),
            _by_server("reading.wall_by_execution", "its execution time in `pg_stat_statements`", everything.wall_ms, execution_ms),
            _by_server("reading.wall_by_server_cpu", "the server's CPU time for it", ours.wall_ms, ours.cpu_ms),
        ],
    )


def _taken_row(name: str, taken: Taken, execution_ms: float, bare_ms: float) -> list[str]:
    times = (taken.wall_ms, taken.logged_ms, execution_ms, taken.cpu_ms)
    ratios = (taken.wall_ms / taken.logged_ms, taken.wall_ms / bare_ms)
    return [name, *(written(each, "ms") for each in times), *(f"{each:.2f}" for each in ratios)]


def _packed_table(packed: Contest) -> Table:
    peer, families = packed[PEER], packed[FAMILIES]
    return Table(
        "Steady, compressed",
        COLUMNS,
        [figures.row(name) for name, figures in packed.items()],
        ["The same for a reader that takes gzip, as Prometheus does."],
        [
            _against("reading.gzip_wall", "a steady reading, compressed, wall", families.wall_ms, peer.wall_ms),
            _against("reading.gzip_cpu", "a steady reading, compressed, CPU of the program", families.cpu_ms, peer.cpu_ms),
        ],
    )


def _due_table(due: Contest, sizes: Mapping[str, Cost]) -> Table:
    peer, families = due[PEER], due[FAMILIES]
    rounds = len(families.seconds)
    # On a machine too busy they overrun their time, and are then asked beside the readings: that compares with nothing.
    missed = [name for name, size in sizes.items() if size.calls < rounds]
    alone = {name: written(size.execution_ms / max(size.calls, 1), "ms") for name, size in sizes.items()}
    return Table(
        "With sizes due",
        COLUMNS,
        [figures.row(name) for name, figures in due.items()],
        [
            "Everything that is asked once per server is due in each of these readings, sizes of databases and tablespaces",
            "among it.",
            "Ours counts them every 15 minutes, postgres_exporter those of databases in every reading.",
            f"The execution of the statement with `pg_database_size` alone takes {alone[PEER]} when postgres_exporter asks it, and",
            f"{alone[FAMILIES]} when ours does: the server walks the same files for both.",
            *(f"**Not in all readings of {name}: {sizes[name].calls:.0f} of {rounds}.**" for name in missed),
        ],
        []
        if missed
        else [
            _against("reading.due_wall", "a reading with sizes due, wall", families.wall_ms, peer.wall_ms, 1.0, readme=True),
            *_of_spent("reading.due", "a reading with sizes due", families.spent, peer.spent, (1.0, 1.0, 1.0)),
        ],
    )


def _hour_table(minute: Contest, due: Contest, cold: Contest) -> Table:
    peer = minute[PEER].spent
    hours = {FAMILIES: _hour(minute[FAMILIES], due[FAMILIES])}
    hours[ALL] = _hour(minute[ALL], due[ALL])
    for seconds, times in WALKS.items():
        walk = cold[_walk(seconds)].spent.beyond(cold["nothing"].spent)
        hours[ALL] = hours[ALL].plus(walk.times(times / 60))
    return Table(
        "One a minute, for an hour",
        COLUMNS,
        [
            *(figures.row(name) for name, figures in minute.items()),
            *(spent.row(f"{name}, on average") for name, spent in hours.items()),
        ],
        [
            "First a reading when all is due that is used again for a minute or less.",
            "The average is computed: of 60 readings in an hour 4 have sizes due, and between those of all collectors lie",
            f"{sum(WALKS.values())} walks over all databases, {WALKS[3600]} of them with everything and the others with",
            "what is due by then;",
            "a walk is what a first reading of only that costs. postgres_exporter has nothing of what the walk reads.",
        ],
        [
            *_of_spent("reading.hour", "a reading a minute for an hour", hours[FAMILIES], peer),
            *_of_spent("reading.hour_all", "a reading a minute for an hour, all collectors", hours[ALL], peer),
        ],
    )


def _hour(minute: Figures, due: Figures) -> Spent:
    return minute.spent.times(56 / 60).plus(due.spent.times(4 / 60))


def _cold_table(cold: Contest) -> Table:
    return Table(
        "Cold",
        COLUMNS,
        [cold[name].row(name) for name in (PEER, FAMILIES, ALL)],
        [
            "The first reading after a start, with all CPU since the start.",
            "That of all collectors waits for the first walk over all databases.",
        ],
        [_against("reading.cold_wall", "the first reading, wall", cold[FAMILIES].wall_ms, cold[PEER].wall_ms)],
    )


def _against(name: str, text: str, ours: float, peer: float, goal: float | None = None, *, readme: bool = False) -> Ratio:
    """Milliseconds of ours by the peer's."""
    return Ratio(name, text, ours / peer, goal, ours=written(ours, "ms"), peer=written(peer, "ms"), readme=readme)


def _by_server(name: str, what: str, wall_ms: float, server_ms: float, goal: float | None = None, hint: str = "") -> Ratio:
    text = f"a steady reading of all collectors, wall, by {what} ({written(server_ms, 'ms')}{hint})"
    return Ratio(name, text, wall_ms / server_ms, goal, ours=written(wall_ms, "ms"))


def _of_spent(
    name: str,
    text: str,
    ours: Spent,
    peer: Spent,
    goals: tuple[float | None, float | None, float | None] = (None, None, None),
    *,
    readme: bool = False,
) -> list[Ratio]:
    return [
        _against(f"{name}.{kind}", f"{text}, {what}", getattr(ours, kind), getattr(peer, kind), goal, readme=readme)
        for (kind, what), goal in zip(SPENT.items(), goals, strict=True)
    ]


def _missing(superset: Superset) -> str:
    documented = (ROOT / "docs" / "postgres_exporter.md").read_text()
    unknown = [f"`{name}`" for name in superset.missing if f"`{name}`" not in documented]
    known = [f"`{name}`" for name in superset.missing if f"`{name}`" in documented]
    told = f"Left out, [as documented](postgres_exporter.md): {', '.join(known)}. " if known else ""
    return told + (f"**Not here**: {', '.join(unknown)}." if unknown else "Nothing else of its families is missing.")
