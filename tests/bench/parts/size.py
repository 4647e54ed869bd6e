"""What it takes to be there: the size of the program, the time from its start to a complete reading, and its memory then."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import partial

from agent import SERVERS_ONLY, Agent
from bench import Bench
from peers import Exporter, found, postgres_exporter
from table import Ratio, Table, megabytes, milliseconds
from timing import alternate, fetch, median

TITLE = "Size and start"

# A collector that is skipped has nothing to say of this server, however long one waits.
LATE = re.compile(rb'^pgvitals_collector_absent\{.*outcome="(?!skipped)', re.MULTILINE)


def measure(bench: Bench) -> Table:
    """Beside postgres_exporter."""
    server = bench.loaded
    starts: dict[str, Callable[[], Agent | Exporter]] = {
        "postgres_exporter": lambda: postgres_exporter(server, bench.new_folder("peer")),
        "pgvitals, servers only": lambda: bench.agent(server, lines=SERVERS_ONLY),
        "pgvitals, the default": lambda: bench.agent(server, lines=""),
    }
    idle: dict[str, list[int]] = {name: [] for name in starts}
    after: dict[str, list[int]] = {name: [] for name in starts}

    def start(name: str) -> float:
        began = time.perf_counter()
        with starts[name]() as process:
            idle[name].append(process.resident_kb())
            _until_complete(process)
            seconds = time.perf_counter() - began
            after[name].append(process.resident_kb())
        return seconds

    taken = alternate({name: partial(start, name) for name in starts}, bench.rounds(9, 2))
    peer = found("prometheus-postgres-exporter")
    sizes = {name: (bench.program if name.startswith("pgvitals") else peer).stat().st_size / 1024 for name in starts}
    rows = [
        [
            name,
            megabytes(sizes[name]),
            milliseconds(median(taken[name])),
            megabytes(median(idle[name])),
            megabytes(median(after[name])),
        ]
        for name in starts
    ]
    ours, other = "pgvitals, the default", "postgres_exporter"
    return Table(
        "Size and start",
        ("", "Program", "Start to the first complete reading", "Memory at the start", "Memory after it"),
        rows,
        [
            "A reading is complete when no collector is absent from it that has something to say.",
            "Ours has then walked over all databases.",
            "The start includes that of the process. The default has facts of the host and keeps a history for checks of rates.",
        ],
        [
            Ratio(
                "size.program",
                "size of the program",
                sizes[ours] / sizes[other],
                ours=megabytes(sizes[ours]),
                peer=megabytes(sizes[other]),
            ),
            Ratio(
                "size.memory",
                "memory at the first reading, the default",
                median(after[ours]) / 1024,
                12,
                "MB",
                ours=megabytes(median(after[ours])),
                peer=megabytes(median(after[other])),
                readme=True,
            ),
            Ratio("size.start_ms", "start to the first complete reading, the default", median(taken[ours]) * 1000, unit="ms"),
        ],
    )


def _until_complete(process: Agent | Exporter) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        page = fetch(process.address)
        if page.status == 200 and not LATE.search(page.body):
            return
        time.sleep(0.05)
    raise RuntimeError("no complete reading in two minutes")
