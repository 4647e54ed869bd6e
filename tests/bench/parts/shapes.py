"""Servers of other shapes: many databases, tables or connections, and every table, index and sequence as series."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import Bench
from definitions import query
from figures import Figures, Reader
from server import PORT, Server
from session import Session
from table import Ratio, Table, megabytes, milliseconds, written
from timing import alternate, median
from walks import EVERYTHING, First, read_first, write_unbounded

TITLE = "Servers of other shapes"

PACE = 1.2
COLUMNS = (
    "", "First reading", "The walk", "CPU", "CPU of the server", "Steady reading", "CPU", "CPU of the server", "Execution + planning",
    "Queries", "Samples", "Bytes", "Memory", "Peak",
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """What was measured on a server of some shape."""

    first: First
    steady: Figures
    peak_kb: int

    def row(self, name: str) -> list[str]:
        """As a line of the table."""
        first, steady = self.first, self.steady
        return [
            name,
            milliseconds(first.page.seconds),
            milliseconds(first.walk_seconds),
            written(first.cpu_ms, "ms"),
            written(first.cost.cpu_ms, "ms"),
            milliseconds(median(steady.seconds)),
            written(steady.cpu_ms, "ms"),
            written(steady.cost.cpu_ms, "ms"),
            f"{written(steady.cost.execution_ms, 'ms')} + {written(steady.cost.planning_ms, 'ms')}",
            f"{steady.cost.calls:.0f}",
            f"{steady.page.samples():,}",
            f"{len(steady.page.body) / 1000:,.0f} kB",
            megabytes(steady.resident_kb),
            megabytes(self.peak_kb),
        ]


def measure(bench: Bench) -> list[Table]:
    """Each on a server of its own."""
    databases, tables, connections, objects = (5, 500, 50, 100) if bench.short else (200, 50_000, 1000, 2000)
    makers: dict[str, Callable[[], Server]] = {
        f"{databases} databases": lambda: bench.server(databases=databases),
        f"{tables:,} tables in one database": lambda: _with_tables(bench, tables),
        f"{connections:,} connections": lambda: bench.server(connections=connections),
    }
    shapes = {"The server of most parts": _measure(bench, bench.loaded, None)}
    for name, make in makers.items():
        with make() as server:
            shapes[name] = _measure(bench, server, None)
    with bench.server(tables=objects, sequences=objects) as server:
        checks = write_unbounded(bench)
        everything = _measure(bench, server, checks)
        beyond = min((_beyond(bench, server, checks) for _ in range(bench.rounds(5, 1))), key=lambda each: each.rest_ms)
    name = f"Every table, index and sequence of {objects:,} tables"
    shapes[name] = everything
    samples = everything.steady.page.samples()
    return [
        Table(
            "A first reading and a steady one",
            COLUMNS,
            [shape.row(name) for name, shape in shapes.items()],
            [
                "The walk enters one database after the other, behind the first reading; the CPU beside it is that of both. A steady",
                "reading shows what the latest walk found. The first walk of a new server finds nothing in memory, and databases that",
                "nobody entered before.",
            ],
            [
                Ratio(
                    "shapes.everything_memory",
                    f"memory with every table, index and sequence ({samples:,} samples)",
                    everything.steady.resident_kb / 1024,
                    60,
                    unit="MB",
                ),
                Ratio(
                    "shapes.everything_beyond",
                    f"reading and writing {samples:,} samples, beyond the server's own time",
                    beyond.rest_ms,
                    250,
                    unit="ms",
                ),
            ],
        ),
        Table(
            "Every table, index and sequence, read anew",
            ("", "Wall", "Execution + planning", "Beyond that", "CPU", "CPU of the server", "Samples"),
            [beyond.row(name)],
            [
                "The first reading of an agent that was just started, of nothing but these: from the request to the last byte of the page,",
                f"the quickest of {bench.rounds(5, 1)}.",
            ],
        ),
    ]


def _measure(bench: Bench, server: Server, checks: Path | None) -> Shape:
    with bench.agent(server, checks=checks) as agent:
        first = read_first(agent, server)
        reader = Reader(server, "monitor", agent, agent.read)
        time.sleep(PACE)
        seconds = alternate({"reading": reader.turn}, bench.rounds(10, 2), PACE)["reading"]
        return Shape(first, reader.figures(seconds), agent.peak_kb())


@dataclass(frozen=True)
class Beyond:
    """A reading of everything, and how much of it was not the server's own time."""

    first: First

    @property
    def rest_ms(self) -> float:
        """What the statements did not take."""
        return self.first.page.seconds * 1000 - self.first.cost.statements_ms

    def row(self, name: str) -> list[str]:
        """As a line of the table."""
        first = self.first
        return [
            name,
            milliseconds(first.page.seconds),
            f"{written(first.cost.execution_ms, 'ms')} + {written(first.cost.planning_ms, 'ms')}",
            written(self.rest_ms, "ms"),
            written(first.cpu_ms, "ms"),
            written(first.cost.cpu_ms, "ms"),
            f"{first.page.samples():,}",
        ]


def _beyond(bench: Bench, server: Server, checks: Path) -> Beyond:
    with bench.agent(server, checks=checks) as agent:
        return Beyond(read_first(agent, server, query(EVERYTHING)))


def _with_tables(bench: Bench, count: int) -> Server:
    """A server with so many tables of one column, a key."""
    server = bench.server(configuration="wal_level = minimal\nmax_wal_senders = 0\nmax_wal_size = 4GB\nshared_buffers = 512MB")
    sessions = [Session(server.folder, PORT, "postgres") for _ in range(2)]
    # A transaction has a lock for each, and the table of locks has an end.
    chunks = [(first, min(first + 499, count)) for first in range(1, count + 1, 500)]
    create = "DO $$ BEGIN FOR n IN {}..{} LOOP EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY)', n); END LOOP; END $$"
    try:
        threads = [
            threading.Thread(target=lambda at=at: [sessions[at].query(create.format(*chunk)) for chunk in chunks[at::2]])
            for at in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if int(server.value("SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")) != count:
            raise RuntimeError("some tables could not be made")
    except BaseException:
        server.end()
        raise
    finally:
        for session in sessions:
            session.close()
    return server
