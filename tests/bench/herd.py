"""Many readers at once: raw sockets in one loop, so that the client takes as little of the machine as it can."""

from __future__ import annotations

import re
import selectors
import socket
import time
from dataclasses import dataclass, field

_PATIENCE = 60


@dataclass
class Herd:
    """What a number of readers, who asked at the same moment, were given."""

    seconds: list[float] = field(default_factory=list)  # of each who was answered, from its connecting or asking to the last byte
    bytes: int = 0
    errors: int = 0
    reconnected: int = 0  # whose connection had been closed since it was used last


@dataclass
class _Reader:
    socket: socket.socket
    began: float
    reused: bool
    head: bytes = b""
    left: int | None = None  # bytes of the answer; none until its head is known
    asked: bool = False


class Readers:
    """So many readers of one address. With `keep`, each keeps its connection from one time to the next."""

    def __init__(self, address: str, count: int, keep: bool) -> None:
        host, port = address.rsplit(":", 1)
        self._address = (host, int(port))
        lines = ["GET /metrics HTTP/1.1", f"Host: {address}", *([] if keep else ["Connection: close"]), "", ""]
        self._request = "\r\n".join(lines).encode()
        self._count = count
        self._keep = keep
        self._kept: list[socket.socket] = []
        self._buffer = bytearray(1 << 20)

    def read(self) -> Herd:
        """All of them at once."""
        herd = Herd()
        kept, self._kept = self._kept, []
        with selectors.DefaultSelector() as selector:
            waiting = 0
            for number in range(self._count):
                self._start(selector, kept[number] if number < len(kept) else None)
                waiting += 1
            deadline = time.perf_counter() + _PATIENCE
            while waiting and time.perf_counter() < deadline:
                for key, _ in selector.select(1):
                    if self._advance(selector, key.data, herd):
                        waiting -= 1
            for key in list(selector.get_map().values()):
                herd.errors += 1
                key.data.socket.close()
        return herd

    def close(self) -> None:
        """Closes what was kept."""
        for kept in self._kept:
            kept.close()
        self._kept = []

    def _start(self, selector: selectors.BaseSelector, kept: socket.socket | None) -> None:
        began = time.perf_counter()
        reader = _Reader(kept or socket.socket(), began, kept is not None)
        if kept is None:
            reader.socket.setblocking(False)
            reader.socket.connect_ex(self._address)
        selector.register(reader.socket, selectors.EVENT_WRITE, reader)

    def _advance(self, selector: selectors.BaseSelector, reader: _Reader, herd: Herd) -> bool:
        """Whether this reader has come to an end."""
        try:
            if not reader.asked:
                reader.socket.sendall(self._request)
                reader.asked = True
                selector.modify(reader.socket, selectors.EVENT_READ, reader)
                return False
            count = reader.socket.recv_into(self._buffer)
        except OSError:
            count = 0
        if count == 0:
            selector.unregister(reader.socket)
            reader.socket.close()
            if reader.reused and not reader.head:
                # As any client does with a connection that was closed while nobody used it.
                herd.reconnected += 1
                again = _Reader(socket.socket(), reader.began, False)
                again.socket.setblocking(False)
                again.socket.connect_ex(self._address)
                selector.register(again.socket, selectors.EVENT_WRITE, again)
                return False
            herd.errors += 1
            return True
        herd.bytes += count
        if reader.left is None:
            reader.head += bytes(self._buffer[:count])
            head, end, body = reader.head.partition(b"\r\n\r\n")
            if not end:
                return False
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            if not head.startswith(b"HTTP/1.1 200") or not length:
                selector.unregister(reader.socket)
                reader.socket.close()
                herd.errors += 1
                return True
            reader.left = int(length[1]) - len(body)
        else:
            reader.left -= count
        if reader.left > 0:
            return False
        herd.seconds.append(time.perf_counter() - reader.began)
        selector.unregister(reader.socket)
        if self._keep:
            self._kept.append(reader.socket)
        else:
            reader.socket.close()
        return True
