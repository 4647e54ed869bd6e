"""What the server takes for a steady reading, whoever asks: by its log, and by a bare client that asks the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from agent import Agent
from bench import Bench
from definitions import query
from log import Log, Logged
from process import cpu_ns
from server import PORT, Server
from session import Session, messages
from timing import alternate, median

# Nothing but the probe and a small page.
LITTLE = query(["server"])
# Then all is prepared that is asked again.
_WARM = 3
# Of so many readings the one in the middle has what a steady one asks: what is due more seldom is in few of them.
_SAMPLE = 5


@dataclass(frozen=True)
class Taken:
    """Milliseconds of one reading by our clock, of the statements in the server's log, and of the CPU of its backends: medians."""

    wall_ms: float
    logged_ms: float
    cpu_ms: float


@dataclass(frozen=True)
class Floor:
    """A steady reading, and the same statements asked by a client that does nothing else. Walls in milliseconds are medians."""

    statements: int
    ours: Taken
    bare: Taken
    while_logged_ms: float  # the wall of ours when the server logs
    bare_execution_ms: float  # by pg_stat_statements, on average
    page_ms: float  # of ours when nothing is due but the probe: the same page
    little_ms: float  # and a small page


@dataclass
class _Asker:
    """Who asks, and what each turn took: seconds, and milliseconds of CPU of the backends."""

    ask: Callable[[], float]
    backends: Sequence[int]
    cpu_ms: list[float] = field(default_factory=list)

    def turn(self) -> float:
        """Seconds of one."""
        before = self._cpu_ns()
        seconds = self.ask()
        time.sleep(0.001)  # until it has gone to sleep
        self.cpu_ms.append((self._cpu_ns() - before) / 1e6)
        return seconds

    def _cpu_ns(self) -> int:
        return sum(cpu_ns(pid) or 0 for pid in self.backends)


@dataclass(frozen=True)
class Roles:
    """By which the server tells apart who asks."""

    plain: str
    bare: str
    logged: str


def clock(bench: Bench, checks: Path, kept: Path, roles: Roles, pace: float) -> Floor:
    """Takes turns between an agent, a bare client, and another of each whose statements the server logs: for how long they take, as
    a log takes time too. Another agent, whose definitions are in `kept`, has nothing due and makes a page of what it has."""
    server, plain_role, bare_role, logged_role = bench.loaded, roles.plain, roles.bare, roles.logged
    with ExitStack() as stack:
        log = stack.enter_context(server.logged(logged_role))
        plain = stack.enter_context(bench.agent(server, role=plain_role, checks=checks))
        logged = stack.enter_context(bench.agent(server, role=logged_role, checks=checks))
        prepared, steady = _find_statements(plain, logged, log, pace)
        idle = stack.enter_context(bench.agent(server, role=logged_role, checks=kept))
        idle.read()
        idle.wait_for_walk()
        bare = _Bare(stack, server, bare_role, prepared, steady)
        bare_logged = _Bare(stack, server, logged_role, prepared, steady)
        ours = _Asker(lambda: plain.read().seconds, server.backends(plain_role))
        asked = _Asker(bare.ask, server.backends(bare_role))
        sums: dict[str, list[float]] = {"logged": [], "bare logged": []}

        def summed(name: str, ask: Callable[[], float]) -> float:
            log.take()
            seconds = ask()
            sums[name].append(sum(each.milliseconds for each in log.take()))
            return seconds

        meter, rounds = server.meter(bare_role), bench.rounds(40, 3)
        taken = alternate(
            {
                "plain": ours.turn,
                "page": lambda: idle.read().seconds,
                "bare": asked.turn,
                "logged": lambda: summed("logged", lambda: logged.read().seconds),
                "little": lambda: idle.read(LITTLE).seconds,
                "bare logged": lambda: summed("bare logged", bare_logged.ask),
            },
            rounds,
            pace,
        )
        walls = {name: median(seconds) * 1000 for name, seconds in taken.items()}
        return Floor(
            len(steady),
            Taken(walls["plain"], median(sums["logged"]), median(ours.cpu_ms)),
            Taken(walls["bare"], median(sums["bare logged"]), median(asked.cpu_ms)),
            walls["logged"],
            meter.stop().each(rounds).execution_ms,
            walls["page"],
            walls["little"],
        )


class _Bare:
    """A session that has prepared what an agent prepared in its own, and asks all of a reading in one write."""

    def __init__(self, stack: ExitStack, server: Server, role: str, prepared: Sequence[str], steady: Sequence[str]) -> None:
        self._session = stack.enter_context(Session(server.folder, PORT, role))
        for statement in [*prepared, *steady]:
            self._session.query(statement)  # an error is one here
        self._count = len(steady)
        self._messages = messages(steady)

    def ask(self) -> float:
        """Seconds until the last answer is there."""
        began = time.perf_counter()
        self._session.discard(self._messages, self._count)
        return time.perf_counter() - began


def _find_statements(plain: Agent, logged: Agent, log: Log, pace: float) -> tuple[list[str], list[str]]:
    """What the second agent's session was set to and has prepared, and what a steady reading asks in it, by the server's log."""
    for agent in (plain, logged):
        agent.read()
        agent.wait_for_walk()
    before = log.take()
    readings: list[list[Logged]] = []
    for _ in range(_WARM + _SAMPLE):
        time.sleep(pace)
        plain.read()
        logged.read()
        readings.append(log.take())
    steady = sorted(readings[_WARM:], key=len)[_SAMPLE // 2]
    session = {each.pid for each in steady}
    told = [each.text for each in [*before, *(each for reading in readings for each in reading)] if each.pid in session]
    return [text for text in told if text.startswith(("SET ", "PREPARE "))], [each.text for each in steady]
