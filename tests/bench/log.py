"""What the server logs of the statements that it was sent, and how long it was at each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# Of the session and its database, so that what is logged can be told apart; none has a space in its name.
PREFIX = "%m [%p %d] "
# Further lines of a text begin with a tab.
_LOGGED = re.compile(rb"^[^\t\n]*? \[(\d+) (\S*)\] LOG:  duration: ([0-9.]+) ms  statement: (.*(?:\n\t.*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Logged:
    """A message that a session sent, and the milliseconds from its arrival to its last row."""

    pid: int
    database: str
    milliseconds: float
    text: str


class Log:
    """The log of a server from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = path.stat().st_size

    def take(self) -> list[Logged]:
        """What was logged since the last time. The server has logged a message before its client knows that it is done."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            lines = file.read()
        self._read += len(lines)
        return [
            Logged(int(pid), database.decode(), float(milliseconds), text.decode(errors="replace").replace("\n\t", "\n"))
            for pid, database, milliseconds, text in _LOGGED.findall(lines)
        ]
