"""What was measured as documents: docs/benchmarks.json, and made of it docs/benchmarks.md and the README's table."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import parts
from bench import ROOT, Bench
from table import Part, Ratio, Table, markdown_table, wrapped

JSON = ROOT / "docs" / "benchmarks.json"
DOCUMENT = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
INTRODUCTION = (
    "Written by `make bench`, not by hand.",
    "pgvitals and the programs beside it are measured in one run; what is compared takes turns in one loop, so",
    "that noise hits both.",
    "Ratios count, not milliseconds: ours divided by the other's ([why so](decisions/041-benchmarks.md)).",
)
BEGIN, END = "<!-- benchmarks: written by make bench -->", "<!-- end of benchmarks -->"


@dataclass
class Report:
    """What was measured, on which machine, of which versions."""

    machine: dict[str, str]
    versions: dict[str, str]
    parts: dict[str, Part]

    @staticmethod
    def of(bench: Bench, measured: dict[str, Part]) -> Report:
        """What this run measured."""
        return Report(_machine(), _versions(bench), measured)

    def ratios(self) -> dict[str, Ratio]:
        """All of them, by name."""
        return {ratio.name: ratio for part in self.parts.values() for ratio in part.ratios()}

    def over(self, before: Report | None) -> Report:
        """This one, and of the one before what was not measured anew; another machine's is nothing to stand beside it."""
        kept = before.parts if before and before.machine == self.machine else {}
        merged = {**kept, **self.parts}
        return Report(self.machine, self.versions, {name: merged[name] for name in parts.names() if name in merged})

    def goals(self) -> str:
        """The goals, and whether they are reached."""
        goals = [ratio for ratio in self.ratios().values() if ratio.goal is not None]
        return "\n".join(["## Goals", "", *_judged(goals)]) + "\n" if goals else ""

    def as_json(self) -> str:
        """For benchmarks.json: first what one looks for in a difference."""
        ratios = {
            name: {"value": round(ratio.value, 4), "goal": ratio.goal, "unit": ratio.unit} for name, ratio in self.ratios().items()
        }
        content = {
            name: {"title": part.title, "date": part.date, "tables": [table.as_json() for table in part.tables]}
            for name, part in self.parts.items()
        }
        whole = {"machine": self.machine, "versions": self.versions, "ratios": ratios, "parts": content}
        return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str) -> Report:
        """What `as_json` wrote."""
        whole = json.loads(text)
        content = {
            name: Part(part["title"], part["date"], [Table.from_json(table) for table in part["tables"]])
            for name, part in whole["parts"].items()
        }
        return Report(whole["machine"], whole["versions"], content)

    def markdown(self) -> str:
        """docs/benchmarks.md."""
        pieces = [
            "# Benchmarks",
            "",
            wrapped(INTRODUCTION),
            "",
            self.goals(),
            "## Machine and versions",
            "",
            *markdown_table(["", ""], [[name, value] for name, value in [*self.machine.items(), *self.versions.items()]]),
            "",
        ]
        for part in self.parts.values():
            pieces += [f"## {part.title}", "", f"Measured on {part.date}.", "", *(table.markdown() for table in part.tables)]
        return "\n".join(pieces).rstrip() + "\n"

    def readme(self) -> str:
        """The README's table."""
        return "\n".join(_judged(ratio for ratio in self.ratios().values() if ratio.readme))


def today() -> str:
    """The date, as documents have it."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


def read() -> Report | None:
    """What is committed, or was written last."""
    return Report.from_json(JSON.read_text()) if JSON.exists() else None


def write(report: Report | None) -> None:
    """Writes the three documents."""
    if report is None:
        raise SystemExit(f"there is no {JSON.relative_to(ROOT)}")
    JSON.write_text(report.as_json())
    DOCUMENT.write_text(report.markdown())
    text = README.read_text()
    if BEGIN not in text or END not in text:
        raise SystemExit(f"README.md has no lines {BEGIN} and {END}")
    between = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    README.write_text(between.sub(lambda _: f"{BEGIN}\n{report.readme()}\n{END}", text))
    for path in (JSON, DOCUMENT, README):
        print(f"written: {path.relative_to(ROOT)}")


def compare(new: Report, committed: Report) -> int:
    """Says what became worse by more than a quarter; 1 if anything did."""
    before = committed.ratios()
    rows = []
    for name, ratio in new.ratios().items():
        if name in before and ratio.unit != "ms":
            verdict = "**worse**" if ratio.is_worse_than(before[name].value) else ""
            rows.append([name, before[name].shown(), ratio.shown(), verdict])
    print("\n".join(markdown_table(["Ratio", "Committed", "Now", ""], rows)))
    return 1 if any(row[3] for row in rows) else 0


def _judged(ratios: Iterable[Ratio]) -> list[str]:
    columns = ["", "the other", "pgvitals", "measured", "goal", ""]
    verdicts = {True: "reached", False: "**not reached**"}
    rows = [
        [ratio.text, ratio.peer, ratio.ours, ratio.shown(), ratio.wanted(), verdicts[ratio.reached] if ratio.wanted() else ""]
        for ratio in ratios
    ]
    return markdown_table(columns, rows)


def _machine() -> dict[str, str]:
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "CPU": cpu[1] if cpu else platform.machine(),
        "Cores": str(os.cpu_count()),
        "Memory": f"{int(memory[1]) / 1024 / 1024:.0f} GB" if memory else "unknown",
        "Kernel": platform.release(),
    }


def _versions(bench: Bench) -> dict[str, str]:
    versions = {"pgvitals": _first_line([str(bench.program), "--version"]).removeprefix("pgvitals ")}
    if commit := _first_line(["git", "-C", str(ROOT), "log", "-1", "--format=%h"]):
        versions["pgvitals"] += f", commit {commit}"
    versions["PostgreSQL"] = _first_line([str(bench.binaries() / "postgres"), "--version"]).removeprefix("postgres (PostgreSQL) ")
    for package in (
        "prometheus-postgres-exporter",
        "prometheus-node-exporter",
        "collectd-core",
        "check-postgres",
        "check-pgactivity",
    ):
        versions[package] = _first_line(["dpkg-query", "-W", "-f", "${Version}", package]) or "not installed"
    return versions


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.partition("\n")[0] if done.returncode == 0 else ""
