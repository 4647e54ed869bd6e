"""A session of PostgreSQL: as much of its protocol as a benchmark needs, so that no driver has to be installed."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

Row = tuple[str | None, ...]

# What ends each answer, ready for the next message, behind a text that ends with NUL. No value of a row has one.
_READY = b"\0Z\0\0\0\5I"
_SCRATCH = bytearray(1 << 18)


class Session:
    """A connection over a Unix socket, for a role that needs no password."""

    def __init__(self, folder: Path, port: int, user: str, database: str = "postgres") -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(600)
        self._buffer = b""
        self._socket.connect(str(folder / f".s.PGSQL.{port}"))
        options = b"".join(text.encode() + b"\0" for text in ("user", user, "database", database, "application_name", "bench"))
        start = struct.pack("!I", 3 << 16) + options + b"\0"
        self._socket.sendall(struct.pack("!I", len(start) + 4) + start)
        self._answer()

    def query(self, sql: str) -> list[Row]:
        """The rows of one statement or of several, as text; an error of the server is raised with its message."""
        return self._answer(sql)

    def send(self, sql: str) -> None:
        """Begins a statement whose answer nobody waits for, such as one that waits for a lock."""
        self._socket.sendall(messages([sql]))

    def discard(self, asked: bytes, count: int) -> None:
        """Sends so many messages at once and throws the answers away as they come, errors among them: what the server takes, and
        next to nothing for the client."""
        self._socket.sendall(asked)
        end = b""
        while count:
            length = self._socket.recv_into(_SCRATCH)
            if not length:
                raise ConnectionError("the server closed the connection")
            piece = end + _SCRATCH[:length]
            count -= piece.count(_READY)
            end = piece[1 - len(_READY) :]

    def close(self) -> None:
        """Says good-bye and closes the connection."""
        with contextlib.suppress(OSError):
            self._socket.sendall(b"X\0\0\0\4")
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _answer(self, sql: str | None = None) -> list[Row]:
        if sql is not None:
            self.send(sql)
        rows: list[Row] = []
        error: str | None = None
        while True:
            kind, body = self._message()
            if kind == b"D":
                rows.append(_row(body))
            elif kind == b"E":
                error = _message_of(body)
                if sql is None:
                    break
            elif kind == b"R" and body[:4] != b"\0\0\0\0":
                error = "the server asks for a password"
                break
            elif kind == b"Z":
                break
        if error is not None:
            raise RuntimeError(error if sql is None else f"{error}: {sql[:200]}")
        return rows

    def _message(self) -> tuple[bytes, bytes]:
        head = self._take(5)
        return head[:1], self._take(struct.unpack("!I", head[1:])[0] - 4)

    def _take(self, length: int) -> bytes:
        while len(self._buffer) < length:
            more = self._socket.recv(1 << 16)
            if not more:
                raise ConnectionError("the server closed the connection")
            self._buffer += more
        taken, self._buffer = self._buffer[:length], self._buffer[length:]
        return taken


def messages(statements: Iterable[str]) -> bytes:
    """Each as a message of its own, which is a transaction of its own."""
    texts = [statement.encode() + b"\0" for statement in statements]
    return b"".join(b"Q" + struct.pack("!I", len(text) + 4) + text for text in texts)


def _row(body: bytes) -> Row:
    (count,) = struct.unpack_from("!H", body)
    values: list[str | None] = []
    at = 2
    for _ in range(count):
        (length,) = struct.unpack_from("!i", body, at)
        at += 4
        if length < 0:
            values.append(None)
        else:
            values.append(body[at : at + length].decode())
            at += length
    return tuple(values)


def _message_of(body: bytes) -> str:
    for field in body.split(b"\0"):
        if field[:1] == b"M":
            return field[1:].decode(errors="replace")
    return "an error without a message"
