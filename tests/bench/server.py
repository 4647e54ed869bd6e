"""The PostgreSQL server that everything is measured on, and what reading it cost that server."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from log import PREFIX, Log
from process import Process, cpu_ns
from session import Row, Session

PORT = 5432  # the name of a socket in a folder of its own: no server listens on an address
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass
class Cost:
    """What a role cost the server: statements, their milliseconds and rows as pg_stat_statements counts them (planning on 13 and
    newer), and CPU milliseconds of the role's backends and of accepting their connections."""

    calls: float = 0
    execution_ms: float = 0
    planning_ms: float = 0
    rows: float = 0
    cpu_ms: float = 0

    def each(self, times: int) -> Cost:
        """The same, of one of so many."""
        return Cost(*(value / times for value in (self.calls, self.execution_ms, self.planning_ms, self.rows, self.cpu_ms)))

    @property
    def statements_ms(self) -> float:
        """Planning and execution, in milliseconds."""
        return self.execution_ms + self.planning_ms


class Server:
    """A server with so many databases (`postgres` among them), and in `postgres` so many tables of a key and a column, sequences,
    statements that pg_stat_statements knows, and idle sessions of a role `client`.

    Roles: `postgres`; `monitor`, `families` and `exporter`, members of pg_monitor, one for each program that is measured.
    """

    def __init__(
        self,
        binaries: Path,
        folder: Path,
        *,
        databases: int = 1,
        tables: int = 0,
        sequences: int = 0,
        statements: int = 0,
        connections: int = 0,
        configuration: str = "",
    ) -> None:
        self.folder = folder
        self._binaries = binaries
        self._data = folder / "data"
        self._owner = _owner()
        self.major = int(subprocess.check_output([binaries / "postgres", "--version"], text=True).split()[2].split(".")[0])
        self._initialize(connections, statements, configuration)
        self.process = Process(
            [binaries / "postgres", "-D", self._data], log=folder / "log", user=self._owner, end_signal=signal.SIGQUIT
        )
        self._clients: list[Session] = []
        try:
            self._session = self.process.wait_for("the server", self._connect)
            self._fill(databases, tables, sequences, statements)
            self._clients = [Session(folder, PORT, "client") for _ in range(connections)]
        except BaseException:
            self.end()
            raise

    def sql(self, query: str) -> list[Row]:
        """The rows of a query of the superuser, in the database `postgres`, in a session that stays open."""
        return self._session.query(query)

    def value(self, query: str) -> str:
        """The first value of the first row."""
        return self.sql(query)[0][0] or ""

    def dsn(self, role: str = "monitor") -> str:
        """Keywords by which this role connects."""
        return f"host={self.folder} port={PORT} user={role} dbname=postgres"

    @property
    def execution_columns(self) -> tuple[str, str]:
        """Where pg_stat_statements has the milliseconds of execution and of planning."""
        return ("total_exec_time", "total_plan_time") if self.major >= 13 else ("total_time", "0")

    def forget(self, role: str) -> None:
        """Has pg_stat_statements forget what this role asked; before version 12, what anybody asked."""
        if self.major >= 12:
            self.sql(f"SELECT pg_stat_statements_reset('{role}'::regrole, 0, 0)")
        else:
            self.sql("SELECT pg_stat_statements_reset()")

    def meter(self, role: str = "monitor") -> Meter:
        """Begins to count what this role costs."""
        return Meter(self, role)

    @contextmanager
    def spent(self, role: str = "monitor") -> Iterator[Cost]:
        """What the role costs within the `with`, filled in at its end; nobody else may connect meanwhile."""
        cost, meter = Cost(), self.meter(role)
        with meter.turn():
            yield cost
        cost.__dict__.update(meter.stop().__dict__)

    @contextmanager
    def logged(self, role: str) -> Iterator[Log]:
        """Sessions that this role begins in here have all that they ask logged, with how long it took."""
        settings = ("log_min_duration_statement", "0"), ("log_error_verbosity", "terse")
        for name, value in settings:
            self.sql(f"ALTER ROLE {role} SET {name} = {value}")
        try:
            yield Log(self.process.log)
        finally:
            for name, _ in settings:
                self.sql(f"ALTER ROLE {role} RESET {name}")

    def executed(self, role: str, text: str) -> Cost:
        """What pg_stat_statements has of the role's statements with this in their text: calls and execution."""
        total, _ = self.execution_columns
        ((calls, executed),) = self.sql(
            f"SELECT coalesce(sum(calls), 0), coalesce(sum({total}), 0) FROM pg_stat_statements "
            f"WHERE userid = '{role}'::regrole AND query LIKE '%{text}%'"
        )
        return Cost(calls=float(calls or 0), execution_ms=float(executed or 0))

    def backends(self, role: str) -> list[int]:
        """Process ids of this role's sessions."""
        rows = self.sql(f"SELECT pid FROM pg_stat_activity WHERE usename = '{role}'")
        return [int(row[0] or 0) for row in rows]

    def sessions_kb(self, role: str) -> int:
        """Memory that only this role's sessions have, now, in kB; 0 if the kernel does not tell us."""
        return sum(_private_kb(pid) for pid in self.backends(role))

    def end(self) -> None:
        """Ends the server and removes its folder."""
        for client in self._clients:
            client.close()
        self.process.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def _connect(self) -> Session | None:
        try:
            return Session(self.folder, PORT, "postgres")
        except (OSError, RuntimeError):
            return None

    def _initialize(self, connections: int, statements: int, configuration: str) -> None:
        self.folder.chmod(0o755)
        if self._owner:
            shutil.chown(self.folder, self._owner)
        subprocess.run(
            [self._binaries / "initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
            user=self._owner,
            group=self._owner,
            extra_groups=[] if self._owner else None,
        )
        lines = [
            f"port = {PORT}",
            "listen_addresses = ''",
            f"unix_socket_directories = '{self.folder}'",
            f"max_connections = {connections + 100}",
            f"log_line_prefix = '{PREFIX}'",
            "fsync = off",
            "autovacuum = off",  # nothing else is to work while something is measured
            "shared_preload_libraries = 'pg_stat_statements'",
            f"pg_stat_statements.max = {max(5000, statements + 2000)}",
            *(["pg_stat_statements.track_planning = on"] if self.major >= 13 else []),
            configuration,
        ]
        with (self._data / "postgresql.conf").open("a") as file:
            file.write("\n".join(lines) + "\n")

    def _fill(self, databases: int, tables: int, sequences: int, statements: int) -> None:
        for role in ("monitor", "families", "exporter"):
            self.sql(f"CREATE ROLE {role} LOGIN IN ROLE pg_monitor")
        self.sql("CREATE ROLE client LOGIN; CREATE EXTENSION pg_stat_statements")
        for number in range(1, databases):
            self.sql(f"CREATE DATABASE db{number}")
        self._create("TABLE t{} (id int PRIMARY KEY, v text)", tables)
        self._create("SEQUENCE s{}", sequences)
        # PostgreSQL tells statements apart by what they read, not by their constants and names.
        texts = [f"SELECT {'v, ' * (n // tables)}id FROM t{n % tables + 1} WHERE id = {n}" for n in range(statements)]
        for at in range(0, len(texts), 500):
            self.sql(";".join(texts[at : at + 500]))

    def _create(self, what: str, count: int) -> None:
        # A transaction has a lock for each, and the table of locks has an end.
        for first in range(1, count + 1, 1000):
            last = min(first + 999, count)
            self.sql(";".join(f"CREATE {what.format(number)}" for number in range(first, last + 1)))


class Meter:
    """Counts what a role costs, from its making to `stop`, while others take turns with it.

    The CPU time of backends that live is read from them. That of a backend that ended meanwhile, as one does that lives for one
    reading only, is what the kernel then adds to the postmaster's children; with the postmaster's own for making it, this is
    counted for whose `turn` it is.
    """

    def __init__(self, server: Server, role: str) -> None:
        self._server = server
        self._role = role
        self._turns_ns = 0
        server.forget(role)
        self._before = self._living()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """In here the role's backends may come and go; those that came are waited for a second to end, as one does some time after
        its client has gone."""
        before, there = self._postmaster(), self._children()
        yield
        deadline = time.monotonic() + 1
        time.sleep(0.05)
        while self._children() - there and time.monotonic() < deadline:
            time.sleep(0.01)
        self._turns_ns += self._postmaster() - before

    def stop(self) -> Cost:
        """What was counted."""
        cpu = self._turns_ns + sum(self._living().values()) - sum(self._before.values())
        execution, planning = self._server.execution_columns
        ((calls, executed, planned, rows),) = self._server.sql(
            f"SELECT coalesce(sum(calls), 0), coalesce(sum({execution}), 0), coalesce(sum({planning}), 0), coalesce(sum(rows), 0) "
            f"FROM pg_stat_statements WHERE userid = '{self._role}'::regrole"
        )
        return Cost(float(calls or 0), float(executed or 0), float(planned or 0), float(rows or 0), cpu / 1e6)

    def _living(self) -> dict[int, int]:
        return {pid: cpu_ns(pid) or 0 for pid in self._server.backends(self._role)}

    def _children(self) -> set[str]:
        pid = self._server.process.pid
        try:
            return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        except FileNotFoundError:  # a kernel that was built without
            time.sleep(0.1)
            return set()

    def _postmaster(self) -> int:
        """The postmaster's CPU time and that of its children that ended, in nanoseconds; of these the kernel tells hundredths of a
        second, which even out over many turns."""
        stat = Path(f"/proc/{self._server.process.pid}/stat").read_text().rpartition(")")[2].split()
        return self._server.process.cpu_ns() + (int(stat[13]) + int(stat[14])) * TICK_NS


def _private_kb(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_"))


def _owner() -> str | None:
    """PostgreSQL refuses to be root."""
    if os.getuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        raise SystemExit("there is no user postgres to run the server as: tests/setup bench") from None
