"""Times that can be compared: what is measured against one another alternates in one loop, so that noise hits both."""

from __future__ import annotations

import gzip
import http.client
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest of the values that so much of them (0 to 1) is not above."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    """The value in the middle."""
    return percentile(values, 0.5)


def alternate(turns: Mapping[str, Callable[[], float]], rounds: int, pace: float = 0) -> dict[str, list[float]]:
    """What each turn returned in each round, such as its seconds. Between two rounds lie `pace` seconds. Each begins with another
    turn, so that none always comes after the same one."""
    taken: dict[str, list[float]] = {name: [] for name in turns}
    names = list(turns)
    for number in range(rounds):
        for at in range(len(names)):
            name = names[(number + at) % len(names)]
            taken[name].append(turns[name]())
        time.sleep(pace)
    return taken


@dataclass(frozen=True)
class Page:
    """What a web server answered, and the seconds from the connection to the last byte."""

    seconds: float
    status: int
    body: bytes

    def plain(self) -> bytes:
        """The body, unpacked if it came compressed."""
        return gzip.decompress(self.body) if self.body.startswith(b"\x1f\x8b") else self.body

    def text(self) -> str:
        """The same as text."""
        return self.plain().decode()

    def samples(self) -> int:
        """Lines that are neither empty nor comments."""
        return sum(1 for line in self.plain().splitlines() if line and not line.startswith(b"#"))

    def counted(self, name: str) -> dict[str, float]:
        """The samples of one name, by their labels as they are written: `{server="bench1",…}`, or nothing."""
        found = re.findall(rf"^{re.escape(name)}(\{{.*\}})? (\S+)$", self.text(), re.MULTILINE)
        return {labels: float(value) for labels, value in found}

    def names(self) -> set[str]:
        """The names of all samples that have a value."""
        lines = (line for line in self.text().splitlines() if line and not line.startswith("#") and not line.endswith(" NaN"))
        return {line.split("{")[0].split(" ")[0] for line in lines}


def fetch(address: str, path: str = "/metrics", *, compressed: bool = False, timeout: float = 120) -> Page:
    """One request over a connection of its own."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Accept-Encoding": "gzip" if compressed else "identity"})
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    return Page(time.perf_counter() - began, answer.status, body)
