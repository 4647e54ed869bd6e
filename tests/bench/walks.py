"""What is read of every table: walks over the databases, and definitions that leave nothing out."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent import Agent
from bench import Bench
from definitions import query
from server import Cost, Server
from timing import Page

# What has a series for each table, index or sequence.
EVERYTHING = ("user_tables", "statio_user_tables", "table_size", "user_indexes", "index_size", "sequences")
# Small, so that looking for something else costs next to nothing.
LITTLE = query(["server"])


def write_unbounded(bench: Bench, names: Sequence[str] = EVERYTHING, *, always_due: bool = False) -> Path:
    """A folder with these definitions without a bound on their rows, and asked in every reading if they are to be."""
    folder = bench.new_folder("checks")
    for name in names:
        text = re.sub(r"(?m)^max_series = .*$", "max_series = 100000", bench.show(["show", name]), count=1)
        if always_due:
            text = 'fresh_for = "1ms"\n' + re.sub(r"(?m)^fresh_for = .*\n", "", text, count=1)
        (folder / f"{name}.toml").write_text(text)
    return folder


def walks(agent: Agent) -> float:
    """How many walks over the databases came to their end."""
    return sum(agent.counted("pgvitals_databases_walks_total", LITTLE).values())


def wait_for_walks(agent: Agent, count: float = 1, seconds: float = 300) -> int:
    """Waits until so many walks came to their end. Asking costs the agent too: the nanoseconds of CPU that it took meanwhile."""
    began, pause, spent = time.monotonic(), 0.05, 0
    while True:
        before = agent.cpu_ns()
        done = walks(agent)
        spent += agent.cpu_ns() - before
        if done >= count:
            return spent
        if time.monotonic() > began + seconds:
            raise RuntimeError(f"waited {seconds:.0f} s for a walk over the databases")
        time.sleep(pause)
        pause *= 1.3


@dataclass(frozen=True)
class First:
    """The first reading and the first walk of an agent."""

    page: Page
    walk_seconds: float
    cpu_ms: float
    cost: Cost


def read_first(agent: Agent, server: Server, path: str = "") -> First:
    """Reads for the first time, and waits for the walk that this began."""
    before = agent.cpu_ns()
    with server.spent() as cost:
        page = agent.read(path)
        asking = wait_for_walks(agent)
    spent = agent.cpu_ns() - before - asking
    walk = sum(agent.counted("pgvitals_databases_walk_duration_seconds", LITTLE).values())
    return First(page, walk, spent / 1e6, cost)
