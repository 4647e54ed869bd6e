"""What a part of the benchmark hands over: tables to read, and ratios that have a name."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

# Worse than the committed value by more than this is a regression.
WORSE = 1.25


@dataclass(frozen=True)
class Ratio:
    """A figure that is kept and compared: ours divided by the peer's where it has no unit. Less is better.

    `unit` is one of "" (a ratio), "exponent", "MB" and "ms"; milliseconds belong to a machine and are not compared with those of
    another run. `slack` is a difference that means nothing, for figures near 0.
    """

    name: str  # dotted, as in reading.wall
    text: str  # what it is, as a row of a table begins
    value: float
    goal: float | None = None  # at most this
    unit: str = ""
    ours: str = ""  # what was divided, with its unit
    peer: str = ""
    slack: float = 0
    readme: bool = False

    @property
    def reached(self) -> bool:
        """Whether its goal is, if it has one."""
        return self.goal is None or self.value <= self.goal

    def shown(self) -> str:
        """The value with its unit."""
        return written(self.value, self.unit)

    def wanted(self) -> str:
        """The goal with its unit."""
        return "" if self.goal is None else f"≤ {written(self.goal, self.unit)}"

    def is_worse_than(self, before: float) -> bool:
        """Whether it became worse by more than a quarter."""
        return self.unit != "ms" and self.value > before * WORSE + self.slack


@dataclass(frozen=True)
class Table:
    """A table under a heading, with sentences below it; an empty one begins a paragraph."""

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    sentences: Sequence[str] = ()
    ratios: Sequence[Ratio] = ()

    def markdown(self, level: int = 3) -> str:
        """As it stands in a document; all columns but the first are numbers."""
        lines = [f"{'#' * level} {self.heading}", "", *markdown_table(self.columns, self.rows)]
        return "\n".join([*lines, *(["", wrapped(self.sentences)] if self.sentences else [])]) + "\n"

    def as_json(self) -> dict[str, Any]:
        """For benchmarks.json."""
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> Table:
        """What `as_json` wrote."""
        return Table(**{**value, "ratios": [Ratio(**ratio) for ratio in value["ratios"]]})


@dataclass
class Part:
    """What one part measured, and when."""

    title: str
    date: str
    tables: list[Table] = field(default_factory=list)

    def ratios(self) -> list[Ratio]:
        """Those of all its tables."""
        return [ratio for table in self.tables for ratio in table.ratios]


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table whose columns but the first are numbers."""
    head = [_line(columns), _line(["---"] + ["--:"] * (len(columns) - 1), spaced=False)]
    return head + [_line(row) for row in rows]


def wrapped(sentences: Sequence[str]) -> str:
    """Sentences as lines of a document; an empty one begins a paragraph."""
    paragraphs = "\n".join(sentences).split("\n\n")
    return "\n\n".join(textwrap.fill(text, 130, break_long_words=False, break_on_hyphens=False) for text in paragraphs)


def written(value: float, unit: str) -> str:
    """A figure as people read it."""
    number = f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 or unit in ("MB", "ms") else f"{value:.2f}"
    return number if unit in ("", "exponent") else f"{number} {unit}"


def milliseconds(seconds: float) -> str:
    """Seconds, written as milliseconds."""
    return written(seconds * 1000, "ms")


def megabytes(kilobytes: float) -> str:
    """kB of memory, written as MB of 1,024 kB."""
    return written(kilobytes / 1024, "MB")


def _line(cells: Sequence[str], spaced: bool = True) -> str:
    return "| " + " | ".join(cells) + " |" if spaced else "|" + "|".join(cells) + "|"
