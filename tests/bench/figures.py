"""What readings take: of programs that take turns at being read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from process import Process
from server import Cost, Server
from table import megabytes, milliseconds, written
from timing import Page, median, percentile

COLUMNS = (
    "", "Wall, median", "Wall, p95", "CPU", "CPU of the server", "Statements: execution + planning", "Queries", "Samples", "Bytes",
    "Memory", "Its sessions' memory",
)  # fmt: skip
# The fields of `Spent`, in the order of the columns.
SPENT = {"cpu": "CPU of the program", "server_cpu": "CPU of the server", "statements": "statements on the server"}


@dataclass(frozen=True)
class Spent:
    """Milliseconds of one reading."""

    cpu: float
    server_cpu: float
    statements: float

    def times(self, factor: float) -> Spent:
        """So many of it."""
        return Spent(self.cpu * factor, self.server_cpu * factor, self.statements * factor)

    def plus(self, other: Spent) -> Spent:
        """Both together."""
        return Spent(self.cpu + other.cpu, self.server_cpu + other.server_cpu, self.statements + other.statements)

    def beyond(self, other: Spent) -> Spent:
        """What it has more than the other, which may be nothing."""
        more = self.plus(other.times(-1))
        return Spent(max(0.0, more.cpu), max(0.0, more.server_cpu), max(0.0, more.statements))

    def row(self, name: str) -> list[str]:
        """As a line under `COLUMNS`."""
        return [name, "", "", *(written(each, "ms") for each in (self.cpu, self.server_cpu, self.statements)), *[""] * 5]


@dataclass(frozen=True)
class Figures:
    """A program's readings: seconds of each, and of one on average what it and the server spent; the last page."""

    seconds: Sequence[float]
    cpu_ms: float
    cost: Cost
    page: Page
    resident_kb: int
    sessions_kb: int = 0  # on the server, between readings

    @property
    def wall_ms(self) -> float:
        """Half of the readings took no longer."""
        return median(self.seconds) * 1000

    @property
    def spent(self) -> Spent:
        """What one of them cost."""
        return Spent(self.cpu_ms, self.cost.cpu_ms, self.cost.statements_ms)

    def row(self, name: str) -> list[str]:
        """As a line under `COLUMNS`."""
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
            megabytes(self.sessions_kb) if self.sessions_kb else "",
        ]


class Reader:
    """A program that takes turns with others at being read."""

    def __init__(self, server: Server, role: str, process: Process, read: Callable[[], Page]) -> None:
        self._server = server
        self._role = role
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
        cost, sessions_kb = self._meter.stop().each(len(seconds)), self._server.sessions_kb(self._role)
        return Figures(seconds, cpu, cost, self._page, self._process.resident_kb(), sessions_kb)


def mean(figures: Sequence[Figures]) -> Figures:
    """Of several that are each of one reading."""
    count = len(figures)
    names = ("calls", "execution_ms", "planning_ms", "rows", "cpu_ms")
    cost = Cost(**{name: sum(getattr(each.cost, name) for each in figures) / count for name in names})
    last = figures[-1]
    return Figures(
        [each.seconds[0] for each in figures], sum(each.cpu_ms for each in figures) / count, cost, last.page, last.resident_kb
    )
