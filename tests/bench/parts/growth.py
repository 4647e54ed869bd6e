"""How it grows: what a reading, a walk and the agent's memory take as tables, databases, statements, sessions and servers double."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from agent import SERVERS_ONLY, Agent
from bench import Bench
from definitions import all_of, query, write_always_due
from server import PORT, Server
from session import Session
from table import Ratio, Table, megabytes, written
from walks import EVERYTHING, read_first, write_unbounded

TITLE = "How it grows"

MAJORS = (17, 18, 16, 15, 14, 13, 12, 11, 10)
# A growth of less is within what the kernel and the allocator round, and what other work on the machine adds.
LEAST = {"cpu": 1.0, "server_cpu": 3.0, "memory_kb": 512.0}
TOLD = 0.2
WHAT = {"cpu": "CPU of the agent", "server_cpu": "CPU of the server", "memory_kb": "memory"}


@dataclass(frozen=True)
class Point:
    """What it took on one size: milliseconds of one reading, and the most memory the agent had."""

    count: int
    cpu: float
    server_cpu: float
    memory_kb: float
    samples: int

    @staticmethod
    def least(points: Sequence[Point]) -> Point:
        """The least of each: what else the machine had to do only adds."""
        first = points[0]
        fields = (min(getattr(point, name) for point in points) for name in WHAT)
        return Point(first.count, *fields, first.samples)


@dataclass(frozen=True)
class Subject:
    """Something that there may be more or less of."""

    name: str
    text: str
    counts: Sequence[int]  # a geometric series, and none or one before it
    points: Callable[[Bench, Sequence[int]], Iterator[Point]]
    told: str


def measure(bench: Bench) -> list[Table]:
    """One table of the exponents, and one with the figures of each subject."""
    subjects = [
        Subject("tables", "tables", (0, 250, 500, 1000, 2000, 4000), _tables, "All series of every table and index, all of it asked anew."),
        Subject("databases", "databases", (1, 4, 8, 16, 32, 64), _databases, "The first reading and the walk."),
        Subject("statements", "statements", (0, 312, 625, 1250, 2500, 5000), _statements, "`statements` with no bound on its series."),
        Subject("sessions", "sessions", (0, 10, 20, 40, 80, 160, 320, 640), _sessions, "A reading of all that is asked once per server; a tenth waits for a lock."),
        Subject("servers", "servers", (0, 1, 3, 9), _servers, "The same of one agent; nine servers are of nine majors."),
    ]
    grown: list[tuple[Subject, list[Point]]] = []
    for subject in subjects:
        counts = subject.counts[: 4 if bench.short else None]
        bench.say(f"{subject.name}: {', '.join(map(str, counts))}")
        grown.append((subject, list(subject.points(bench, counts))))
    return [_exponents(grown), *(_figures(subject, points) for subject, points in grown)]


def _exponents(grown: Sequence[tuple[Subject, list[Point]]]) -> Table:
    rows, ratios = [], []
    for subject, points in grown:
        values = {field: _fitted_exponent(points, field) for field in WHAT}
        rows.append([subject.text, *(written(value, "exponent") for value in values.values())])
        ratios += [
            Ratio(f"growth.{subject.name}.{field}", f"{what} against {subject.text}", values[field], 1.1, unit="exponent", slack=0.15)
            for field, what in WHAT.items()
        ]
    return Table(
        "Exponents",
        ("Against", *WHAT.values()),
        rows,
        [
            "The k of a + b * count^k that comes closest to the figures below: 1.00 is growth in proportion, 2.00 is four times for twice as",
            f"much; 0 is where the largest size takes hardly more than the smallest, {TOLD:.0%} at most.",
        ],
        ratios,
    )


def _fitted_exponent(points: Sequence[Point], field: str) -> float:
    """The k of a + b * count^k that comes closest to what was measured, in proportion to it."""
    measured = [(point.count, getattr(point, field)) for point in points]
    if measured[-1][1] - measured[0][1] < max(LEAST[field], TOLD * measured[0][1]):
        return 0.0
    return min((_misses(measured, k / 100, LEAST[field]), k / 100) for k in range(20, 301))[1]


def _misses(measured: Sequence[tuple[int, float]], k: float, least: float) -> float:
    """The sum of squares of what the best a and b leave, each divided by the value, or by the least that can be told."""
    weights = [1 / max(value, least) for _, value in measured]
    rows = [(w, w * (count**k if count else 0.0), w * value) for w, (count, value) in zip(weights, measured, strict=True)]
    aa, ab, bb = sum(x * x for x, _, _ in rows), sum(x * y for x, y, _ in rows), sum(y * y for _, y, _ in rows)
    av, bv = sum(x * v for x, _, v in rows), sum(y * v for _, y, v in rows)
    determinant = aa * bb - ab * ab
    a, b = (av * bb - bv * ab) / determinant, (bv * aa - av * ab) / determinant
    return sum((a * x + b * y - v) ** 2 for x, y, v in rows)


def _figures(subject: Subject, points: Sequence[Point]) -> Table:
    return Table(
        f"Against {subject.text}",
        (subject.text.capitalize(), *WHAT.values(), "Samples"),
        [
            [
                f"{point.count:,}",
                written(point.cpu, "ms"),
                written(point.server_cpu, "ms"),
                megabytes(point.memory_kb),
                f"{point.samples:,}",
            ]
            for point in points
        ],
        [subject.told],
    )


def _tables(bench: Bench, counts: Sequence[int]) -> Iterator[Point]:
    checks = write_unbounded(bench)
    with bench.server() as server:
        made = 0
        for count in counts:
            for first in range(made + 1, count + 1, 500):
                last = min(first + 499, count)
                server.sql(";".join(f"CREATE TABLE t{number} (id int PRIMARY KEY, v text)" for number in range(first, last + 1)))
            made = count
            yield Point.least([_first(bench, server, count, bench.agent(server, checks=checks), query(EVERYTHING)) for _ in _rounds(bench)])


def _databases(bench: Bench, counts: Sequence[int]) -> Iterator[Point]:
    with bench.server() as server:
        made = 1
        for count in counts:
            for number in range(made, count):
                server.sql(f"CREATE DATABASE db{number}")
            made = count
            # The first session in a new database writes a file for those that follow.
            _first(bench, server, count, bench.agent(server))
            yield Point.least([_first(bench, server, count, bench.agent(server)) for _ in _rounds(bench)])


def _statements(bench: Bench, counts: Sequence[int]) -> Iterator[Point]:
    checks = write_unbounded(bench, ("statements",), always_due=True)
    with bench.server(tables=500, configuration="pg_stat_statements.max = 10000") as server:
        made = 0
        for count in counts:
            # PostgreSQL tells statements apart by what they read, not by their constants and names.
            texts = [f"SELECT {'v, ' * (n // 500)}id FROM t{n % 500 + 1} WHERE id = {n}" for n in range(made, count)]
            for first in range(0, len(texts), 500):
                server.sql(";".join(texts[first : first + 500]))
            made = count
            points = []
            for _ in range(bench.rounds(4, 2)):
                # What three runs find costly is asked less often: so no more than three of each.
                with bench.agent(server, checks=checks) as agent:
                    agent.read(query(["statements"]))
                    points.append(_read([server], agent, count, 2, query(["statements"])))
            yield Point.least(points)


def _sessions(bench: Bench, counts: Sequence[int]) -> Iterator[Point]:
    # All sizes again and again, each time with new processes: what else the machine has to do lasts longer than ten readings, and
    # where the kernel puts the memory of a server makes a tenth.
    passes = [list(_sessions_once(bench, counts)) for _ in _rounds(bench)]
    return map(Point.least, zip(*passes, strict=True))


def _sessions_once(bench: Bench, counts: Sequence[int]) -> Iterator[Point]:
    with bench.server(configuration=f"max_connections = {max(counts) + 100}") as server, ExitStack() as clients:
        server.sql("CREATE TABLE locked ()")
        holder = clients.enter_context(Session(server.folder, PORT, "postgres"))
        holder.query("BEGIN; LOCK TABLE locked")
        opened = 0
        with bench.agent(server, checks=_always_due(bench)) as agent:
            read_first(agent, server)
            for count in counts:
                for number in range(opened, count):
                    client = clients.enter_context(Session(server.folder, PORT, "postgres"))
                    if number % 10 == 9:
                        client.send("BEGIN; LOCK TABLE locked")
                opened = count
                yield _steady(bench, [server], agent, count)


def _servers(bench: Bench, counts: Sequence[int]) -> Iterator[Point]:
    checks = _always_due(bench)
    with ExitStack() as stack:
        servers: list[Server] = []
        for count in counts:
            for major in MAJORS[len(servers) : count]:
                servers.append(stack.enter_context(bench.server(major=major)))
            lines = SERVERS_ONLY if count else f"[discovery]\nenabled = false\n{SERVERS_ONLY}"
            with bench.agent(*servers, lines=lines, checks=checks) as agent:
                yield _steady(bench, servers, agent, count)


def _always_due(bench: Bench) -> Path:
    """What is asked once per server is asked in every reading, so that all readings are alike."""
    return write_always_due((each for each in all_of(bench) if each.scope == "server"), bench.new_folder("checks"))


def _rounds(bench: Bench) -> range:
    return range(bench.rounds(9, 1))


def _first(bench: Bench, server: Server, count: int, starting: Agent, path: str = "") -> Point:
    with starting as agent:
        first = read_first(agent, server, path)
        page = agent.read(path)
        return Point(count, first.cpu_ms, first.cost.cpu_ms, agent.peak_kb(), page.samples())


def _steady(bench: Bench, servers: Sequence[Server], agent: Agent, count: int) -> Point:
    for _ in range(3):
        agent.read()
    return _read(servers, agent, count, bench.rounds(10, 3))


def _read(servers: Sequence[Server], agent: Agent, count: int, times: int, path: str = "") -> Point:
    turns = []
    for _ in range(times):
        before, meters = agent.cpu_ns(), [server.meter() for server in servers]
        page = agent.read(path)
        cpu, costs = (agent.cpu_ns() - before) / 1e6, [meter.stop() for meter in meters]
        turns.append((sum(cost.calls for cost in costs), cpu, sum(cost.cpu_ms for cost in costs)))
    # What a busy machine makes costly is asked less often, and readings without it are cheap.
    most = max(calls for calls, _, _ in turns)
    whole = [turn for turn in turns if turn[0] == most]
    return Point(count, min(cpu for _, cpu, _ in whole), min(cpu for _, _, cpu in whole), agent.peak_kb(), page.samples())
