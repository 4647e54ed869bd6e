"""Writing the page: 70,000 samples as text, beside what the machine's memory can do."""

from __future__ import annotations

import socket
import time

from agent import Agent
from bench import Bench
from table import Ratio, Table, milliseconds, written
from timing import median
from walks import LITTLE, read_first, write_unbounded

TITLE = "Writing the page"


def measure(bench: Bench) -> Table:
    """Pages read again while all results are fresh: nothing is asked, all of it is written anew."""
    objects = 200 if bench.short else 2000
    with bench.server(tables=objects, sequences=objects) as server, bench.agent(server, checks=write_unbounded(bench)) as agent:
        read_first(agent, server)
        waits, cpus, little_waits, little_cpus = [], [], [], []
        rounds = bench.rounds(20, 5)
        for _ in range(rounds):
            page = agent.read()  # now everything is fresh for a second
            for path, seconds, spent in (("", waits, cpus), (LITTLE, little_waits, little_cpus)):
                wait, cpu = _again(agent, path)
                seconds.append(wait)
                spent.append(cpu)
    bandwidth = _copied_per_second()
    size = len(page.body)
    least = min(waits) - min(little_waits)
    speed = size / least
    return Table(
        "Facts that are known, as text",
        ("Samples", "Bytes", "Until the first byte, median", "Quickest", "CPU with sending it", "MB/s", "Memory, MB/s copied", "Memory by writing"),
        [
            [
                f"{page.samples():,}",
                f"{size / 1e6:,.1f} MB",
                milliseconds(median(waits) - median(little_waits)),
                milliseconds(least),
                milliseconds(median(cpus) - median(little_cpus)),
                f"{speed / 1e6:,.0f}",
                f"{bandwidth / 1e6:,.0f}",
                written(bandwidth / speed, ""),
            ]
        ],
        [
            "From the request to the first byte, as a page is written as a whole before it is sent; less what a page of a few lines takes in the",
            "same way. All of it is put together and written anew, nothing is kept from the page before. MB/s are those of the quickest of",
            f"{rounds}. Memory is what one thread copies of blocks larger than any cache, in the same process as nothing else.",
        ],
        [
            Ratio("encoding.by_memory", "memory bandwidth by the speed of writing text", bandwidth / speed),
            Ratio("encoding.wall", f"writing {page.samples():,} samples", least * 1000, unit="ms"),
        ],
    )


def _again(agent: Agent, path: str) -> tuple[float, float]:
    """Seconds until the first byte, and CPU seconds until the last."""
    host, port = agent.address.rsplit(":", 1)
    request = f"GET /metrics{path} HTTP/1.1\r\nHost: {agent.address}\r\nConnection: close\r\n\r\n".encode()
    before = agent.cpu_ns()
    with socket.create_connection((host, int(port))) as connection:
        began = time.perf_counter()
        connection.sendall(request)
        taken = connection.recv(1)
        wait = time.perf_counter() - began
        while taken:
            taken = connection.recv(1 << 20)
    return wait, (agent.cpu_ns() - before) / 1e9


def _copied_per_second() -> float:
    size = 256 << 20
    source, target = memoryview(bytearray(b"x") * size), memoryview(bytearray(size))
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        target[:] = source
        best = min(best, time.perf_counter() - began)
    return size / best
