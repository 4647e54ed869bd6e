"""Our definitions: how often they are asked, and what is to be asked more often than that."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import Bench

_UNITS = {"ms": 0.001, "s": 1, "min": 60, "h": 3600}


@dataclass(frozen=True)
class Definition:
    """A collector of servers."""

    name: str
    scope: str  # server or database
    every: str  # as it is written; a result is used again for so long
    text: str

    @property
    def seconds(self) -> float:
        """For how long a result is used again."""
        number, unit = re.findall(r"\d+|\D+", self.every)
        return int(number) * _UNITS[unit]


def all_of(bench: Bench) -> list[Definition]:
    """All that come with the program."""
    listed = bench.show(["list"]).partition("\n\n")[0].splitlines()[1:]
    return [_read(bench, line.split()[0]) for line in listed]


def write_always_due(definitions: Iterable[Definition], folder: Path) -> Path:
    """Writes them to a folder as they are, but to be asked whenever somebody reads."""
    return write(definitions, folder, "1ms")


def write(definitions: Iterable[Definition], folder: Path, fresh_for: str) -> Path:
    """Writes them to a folder as they are, but for how long a result is used again."""
    for definition in definitions:
        rest = re.sub(r"(?m)^fresh_for = .*\n", "", definition.text, count=1)
        (folder / f"{definition.name}.toml").write_text(f'fresh_for = "{fresh_for}"\n{rest}')
    return folder


def query(names: Sequence[str]) -> str:
    """What stands behind /metrics when only these are wanted."""
    return "?" + "&".join(f"collect[]={name}" for name in names)


def _read(bench: Bench, name: str) -> Definition:
    text = bench.show(["show", name])
    keys = tomllib.loads(text)
    scope = keys.get("scope", "server")
    return Definition(name, scope, keys.get("fresh_for", "60s" if scope == "database" else "1s"), text)
