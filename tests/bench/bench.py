"""What every part is given: where things are, how much is to be measured, and the ways to start it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from agent import SERVERS_ONLY, Agent
from server import Server

ROOT = Path(__file__).resolve().parents[2]
# With the process id of the benchmark in its name: who finds one of a benchmark that is gone may remove it.
FOLDERS = "pgvitals-bench."


class Bench:
    """A run of the benchmark. `short` asks for little: parts measure small shapes and few rounds then."""

    def __init__(self, short: bool) -> None:
        self.short = short
        self.program = _program()
        self._servers = Path(os.environ.get("PGVITALS_SERVERS", "/var/tmp/pgvitals/servers"))
        self._began = time.monotonic()
        self._stack = ExitStack()
        _remove_abandoned()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{FOLDERS}{os.getpid()}."))
        self.folder.chmod(0o755)  # the server has another user
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)

    def say(self, line: str) -> None:
        """A line of progress, on the standard error."""
        print(f"[{time.monotonic() - self._began:5.0f} s] {line}", file=sys.stderr, flush=True)

    def rounds(self, full: int, short: int = 3) -> int:
        """How often to measure something; ROUNDS in the environment has the last word."""
        return int(os.environ.get("ROUNDS", short if self.short else full))

    def new_folder(self, name: str) -> Path:
        """An empty folder, removed with the run."""
        return Path(tempfile.mkdtemp(prefix=f"{name}.", dir=self.folder))

    def server(
        self,
        *,
        major: int = 17,
        databases: int = 1,
        tables: int = 0,
        sequences: int = 0,
        statements: int = 0,
        connections: int = 0,
        configuration: str = "",
    ) -> Server:
        """A server of this shape, for a `with`."""
        self.say(
            f"starting PostgreSQL {major}: databases={databases} tables={tables} sequences={sequences} "
            f"statements={statements} connections={connections}"
        )
        return Server(
            self.binaries(major),
            self.new_folder(f"server{major}"),
            databases=databases,
            tables=tables,
            sequences=sequences,
            statements=statements,
            connections=connections,
            configuration=configuration,
        )

    def binaries(self, major: int = 17) -> Path:
        """The programs of this major."""
        folder = self._servers / str(major) / "bin"
        if not (folder / "postgres").exists():
            raise SystemExit(f"there is no PostgreSQL {major} in {self._servers}: tests/setup server {major}")
        return folder

    @property
    def loaded_with(self) -> tuple[int, int]:
        """Tables and statements of that server: 2,000 and 3,000, a tenth of it when short."""
        return (200, 300) if self.short else (2000, 3000)

    @cached_property
    def loaded(self) -> Server:
        """The server that most is measured on, started once: 12 databases, and `loaded_with`."""
        tables, statements = self.loaded_with
        return self._stack.enter_context(self.server(databases=12, tables=tables, statements=statements))

    def agent(self, *servers: Server, role: str = "monitor", lines: str = SERVERS_ONLY, checks: Path | None = None) -> Agent:
        """An agent that watches these servers as this role, for a `with`."""
        return Agent(self.program, self.new_folder("agent"), servers, role=role, lines=lines, checks=checks)

    def show(self, arguments: Sequence[str]) -> str:
        """What our program prints."""
        return subprocess.check_output([self.program, *arguments], text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()


def _program() -> Path:
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    program = Path(os.environ.get("PGVITALS_PROGRAM", target / "release" / "pgvitals"))
    if not program.exists():
        raise SystemExit(f"there is no {program}: cargo build --release, or name the program in PGVITALS_PROGRAM")
    return program.resolve()


def _remove_abandoned() -> None:
    """Who was killed could not remove its folder; its servers ended with it."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDERS}*"):
        number = folder.name.removeprefix(FOLDERS).split(".")[0]
        if number.isdigit() and folder.stat().st_uid == os.getuid() and not Path(f"/proc/{number}").exists():
            shutil.rmtree(folder, ignore_errors=True)
