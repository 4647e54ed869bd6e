"""Many readers at once: how long each waits, and what they cost the server."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from agent import Agent
from bench import Bench
from herd import Readers
from server import Cost, Server
from table import Ratio, Table, megabytes, milliseconds, written
from timing import median, percentile
from walks import read_first

TITLE = "Many readers at once"

# Longer than what is asked in every reading is used again.
PACE = 1.2


@dataclass(frozen=True)
class Crowd:
    """What so many readers came to, on average of each time that all of them asked at once."""

    count: int
    how: str
    seconds: list[float]
    lasted: float
    bytes: float
    errors: int
    reconnected: int
    cost: Cost
    cpu_ms: float
    resident_kb: int
    peak_kb: int

    def row(self) -> list[str]:
        """As a line of the table."""
        waits = [percentile(self.seconds, part) if self.seconds else 0.0 for part in (0.5, 0.95, 0.99, 1)]
        return [
            f"{self.count:,}, {self.how}",
            *(milliseconds(wait) for wait in waits),
            f"{self.errors}",
            f"{self.reconnected}",
            f"{self.cost.calls:.1f}",
            written(self.cost.cpu_ms, "ms"),
            written(self.cpu_ms, "ms"),
            f"{self.bytes / 1e6:,.0f} MB",
            megabytes(self.resident_kb),
            megabytes(self.peak_kb),
        ]


def measure(bench: Bench) -> Table:
    """The same page for 1 to 1,000 readers, each with a connection that stays and with a new one."""
    server = bench.loaded
    counts = (1, 100, 1000) if bench.short else (1, 10, 100, 1000)
    crowds = []
    for count in counts:
        for how in ("connections kept", "new connections"):
            # An agent for each, so that what it has in memory is of these readers.
            with bench.agent(server) as agent:
                read_first(agent, server)
                crowds.append(_crowd(bench, server, agent, count, how))
    alone, most = crowds[0], crowds[-2:]
    return Table(
        "The page of the usual server",
        (
            "Readers", "p50", "p95", "p99", "Slowest", "Refused or cut", "Connected again", "Queries", "CPU of the server", "CPU", "Sent",
            "Memory after", "Peak",
        ),
        [crowd.row() for crowd in crowds],
        [
            "All of them ask at the same moment, for all collectors, when no result is fresh any more; one waits from its connecting (or",
            "asking, where its connection is kept) to the last byte. The readers share the machine with the agent and the server. There are",
            "seats for 256 connections and others wait for one; who comes with a connection that had to give way connects again. Results",
            "are used again for a second. Who waited for a seat is given what was found since the crowd began; who asks again on a",
            "connection that he kept has the server probed anew.",
        ],
        [
            Ratio(
                f"readers.{key}",
                f"{crowd.count:,} readers at once ({crowd.how}), queries on the server, by those for one reader who asks every second",
                crowd.cost.calls / (alone.cost.calls * max(1, math.ceil(crowd.lasted))),
                # Some results are used again for 10 seconds, so that no two readings have the same number of queries.
                1.05,
                slack=0.1,
                ours=f"{crowd.cost.calls:.0f} in {crowd.lasted:.1f} s",
                peer=f"{alone.cost.calls:.0f} each",
                readme=key == "new",
            )
            for crowd, key in zip(most, ("kept", "new"), strict=True)
        ],
    )


def _crowd(bench: Bench, server: Server, agent: Agent, count: int, how: str) -> Crowd:
    readers = Readers(agent.address, count, keep=how == "connections kept")
    readers.read()
    time.sleep(PACE)
    before, meter = agent.cpu_ns(), server.meter()
    herds = []
    rounds = bench.rounds(10 if count < 1000 else 5, 2)
    for _ in range(rounds):
        with meter.turn():
            herds.append(readers.read())
        time.sleep(PACE)
    cost, cpu = meter.stop().each(rounds), (agent.cpu_ns() - before) / 1e6 / rounds
    readers.close()
    return Crowd(
        count,
        how,
        [seconds for herd in herds for seconds in herd.seconds],
        median([max(herd.seconds, default=0.0) for herd in herds]),
        sum(herd.bytes for herd in herds) / rounds,
        sum(herd.errors for herd in herds),
        sum(herd.reconnected for herd in herds),
        cost,
        cpu,
        agent.resident_kb(),
        agent.peak_kb(),
    )
