"""Writing the page: 70,000 samples as text, beside what the machine's memory can do."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
import time
from pathlib import Path

from agent import Agent
from bench import Bench
from table import Ratio, Table, milliseconds, written
from walks import LITTLE, read_first, write_unbounded

TITLE = "Writing the page"


def measure(bench: Bench) -> list[Table]:
    """Pages of an agent, and what its parts take in a program of nothing else, where that was built."""
    program = bench.program.parent / "examples" / "encode"
    return [_pages(bench), *([_parts(bench, program)] if program.exists() else [])]


def _pages(bench: Bench) -> Table:
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
    size = len(page.body)
    wait, cpu = (min(taken) - min(little) for taken, little in ((waits, little_waits), (cpus, little_cpus)))
    sending = _sending(size)
    bandwidth, speed = _copied_per_second(), size / max(cpu - sending, 1e-6)
    return Table(
        "Facts that are known, as text",
        ("Samples", "Bytes", "Until the first byte", "CPU", "Sending it takes", "Written, MB/s", "Memory, MB/s copied", "Memory by writing"),
        [
            [
                f"{page.samples():,}",
                f"{size / 1e6:,.1f} MB",
                milliseconds(wait),
                milliseconds(cpu),
                milliseconds(sending),
                f"{speed / 1e6:,.0f}",
                f"{bandwidth / 1e6:,.0f}",
                written(bandwidth / speed, ""),
            ]
        ],
        [
            f"The least of {rounds} times. A page is written as a whole before it is sent; what a page of a few lines takes in the same way is",
            "taken off. All of it is put together and written anew, nothing is kept from the page before. CPU is that of the agent until the",
            "page is sent; sending as many bytes that are there already is measured by itself and taken off. Memory is what one thread copies",
            "of a block larger than any cache.",
        ],
        [
            Ratio("encoding.by_memory", "memory bandwidth by the speed of writing text", bandwidth / speed),
            Ratio("encoding.wall", f"writing {page.samples():,} samples", wait * 1000, unit="ms"),
        ],
    )


def _parts(bench: Bench, program: Path) -> Table:
    """Each step from rows to text; the last one copies the same text within memory."""
    rounds = str(bench.rounds(30, 5))
    first, *lines = subprocess.check_output([program, rounds], text=True).splitlines()
    steps = [re.split(r"\s{2,}", line.strip()) for line in lines if line.strip()]
    speeds = {name: float(speed.split()[0]) for name, _, speed in steps}
    return Table(
        f"Its steps, of {first}",
        ("", "ms", "MB/s"),
        steps,
        [f"The median of {rounds} rounds of `cargo run --release --example encode`. `copy` is the same text copied from memory to memory."],
        [Ratio("encoding.by_copy", "copying the page by the speed of writing it", speeds["copy"] / speeds["prometheus"])],
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


def _sending(size: int) -> float:
    """CPU seconds that a thread takes to send so many bytes within this machine."""
    content, best = b"x" * size, float("inf")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for _ in range(5):
            with socket.create_connection(listener.getsockname()) as reader:
                writer, _ = listener.accept()
                spent: list[float] = []
                thread = threading.Thread(target=_send, args=(writer, content, spent))
                thread.start()
                while reader.recv(1 << 20):
                    pass
                thread.join()
                best = min(best, *spent)
    return best


def _send(writer: socket.socket, content: bytes, spent: list[float]) -> None:
    began = time.thread_time()
    with writer:
        writer.sendall(content)
    spent.append(time.thread_time() - began)


def _copied_per_second() -> float:
    size = 256 << 20
    source, target = memoryview(bytearray(b"x") * size), memoryview(bytearray(size))
    best = float("inf")
    for _ in range(5):
        began = time.thread_time()
        target[:] = source
        best = min(best, time.thread_time() - began)
    return size / best
