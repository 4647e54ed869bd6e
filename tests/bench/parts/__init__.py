"""The parts of the benchmark, one file each, with `TITLE` and `measure(bench)`; `SHORT = False` leaves one out of short runs."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from typing import Protocol

from bench import Bench
from table import Table

# What comes first in the report, and what is not measured unless it is named; any other follows by name.
FIRST = ("reading", "collectd", "checks", "size")
ONLY_BY_NAME = ("cost",)


class PartModule(Protocol):
    """What a file in this folder has."""

    TITLE: str

    def measure(self, bench: Bench) -> Table | Sequence[Table]:
        """Measures it."""


def names() -> list[str]:
    """Those there are, in the order of the report."""
    there = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    return [name for name in FIRST if name in there] + [name for name in there if name not in FIRST]


def load(name: str) -> PartModule:
    """The part of this name."""
    return importlib.import_module(f"parts.{name}")


def usual(short: bool) -> list[str]:
    """Those that are measured when none is named."""
    return [name for name in names() if name not in ONLY_BY_NAME and (not short or getattr(load(name), "SHORT", True))]
