"""Checks that ask the server themselves, beside a bare client that comes as often, asks the same and leaves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from bench import Bench
from process import run
from server import PORT, Server
from session import Session, messages
from timing import alternate, median

ROLE = "monitor"

Command = Sequence[str]


@dataclass(frozen=True)
class Compared:
    """Seconds of a check, and of a bare client that does the same; of these, until it may ask. Medians of turns in one loop."""

    sessions: int
    check: float
    bare: float
    connecting: float

    @property
    def ratio(self) -> float:
        """The check by the bare client."""
        return self.check / self.bare


def compare(bench: Bench, server: Server, commands: Mapping[str, Command], environment: Mapping[str, str]) -> dict[str, Compared]:
    """Of each of these commands, which connect as `ROLE`."""
    return {name: _compare(bench, server, command, environment) for name, command in commands.items()}


def _compare(bench: Bench, server: Server, command: Command, environment: Mapping[str, str]) -> Compared:
    bare = _Bare(server, *_find_visits(server, partial(run, command, environment)))
    taken = alternate({"check": lambda: run(command, environment).seconds, "bare": bare.turn}, bench.rounds(15))
    return Compared(len(bare.databases), median(taken["check"]), median(taken["bare"]), median(bare.connecting))


@dataclass
class _Bare:
    """Connects to one database after the other, and asks the same in each."""

    server: Server
    databases: Sequence[str]
    statement: str
    connecting: list[float] = field(default_factory=list)

    def turn(self) -> float:
        """Seconds of all of it."""
        asked = messages([self.statement])
        connecting = 0.0
        began = time.perf_counter()
        for database in self.databases:
            start = time.perf_counter()
            with Session(self.server.folder, PORT, ROLE, database) as session:
                connecting += time.perf_counter() - start
                session.discard(asked, 1)
        seconds = time.perf_counter() - began
        self.connecting.append(connecting)
        return seconds


def _find_visits(server: Server, check: Callable[[], object]) -> tuple[list[str], str]:
    """The databases that it goes to for the statement that takes longest, and that, by the server's log."""
    with server.logged(ROLE) as log:
        check()
        asked = log.take()
    statement = max(asked, key=lambda each: each.milliseconds).text
    databases = [each.database for each in asked if each.text == statement]
    with Session(server.folder, PORT, ROLE, databases[0]) as session:
        session.query(statement)  # an error is one here
    return databases, statement
