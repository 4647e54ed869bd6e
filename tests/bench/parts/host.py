"""Facts of the host: one reading beside node_exporter, one push to Graphite beside collectd, and what an agent costs that nobody
reads."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import peers
from agent import Agent
from bench import Bench
from process import Process
from table import Ratio, Table, megabytes, milliseconds, written
from timing import Page, alternate, median

TITLE = "Facts of the host"

OURS, NODE, POSTGRES, COLLECTD = "pgvitals", "node_exporter", "postgres_exporter", "collectd"
# Nothing but the host: no server is named, and none is sought.
HOST_ONLY = "[discovery]\nenabled = false\n[host]\nenabled = true\n"
# A result is used again for a second.
PACE = 1.2
# After the last byte a program still closes the connection and its threads go to sleep.
AFTERWARDS = 0.02
# How names of the kernel's facts begin.
KERNEL = "node_"
# The plugins that read what our collectors read.
PLUGINS = ("contextswitch", "cpu", "df", "disk", "interface", "irq", "load", "memory", "swap", "uptime", "vmem")
PUSH_INTERVAL = 1


def measure(bench: Bench) -> list[Table]:
    """Readings, pushes and idling."""
    return [_readings(bench), _pushes(bench), _idling(bench)]


@dataclass
class Reader:
    """A program that is read in turns, and what each reading cost it."""

    process: Process
    read: Callable[[], Page]
    page: Page
    cpu_ms: list[float] = field(default_factory=list)
    wake_ups: list[float] = field(default_factory=list)

    def turn(self) -> float:
        """Seconds of one reading."""
        meter = Meter(self.process)
        self.page = self.read()
        time.sleep(AFTERWARDS)
        spent = meter.stop()
        self.cpu_ms.append(spent.cpu_ms)
        self.wake_ups.append(spent.wake_ups)
        return self.page.seconds

    def row(self, name: str, seconds: Sequence[float]) -> list[str]:
        """As a line of a table."""
        return [
            name,
            milliseconds(median(seconds)),
            written(median(self.cpu_ms), "ms"),
            f"{median(self.wake_ups):.0f}",
            f"{self.page.samples():,}",
            f"{sum(name.startswith(KERNEL) for name in self.page.names()):,}",
            f"{len(self.page.body) / 1000:,.0f} kB",
            megabytes(self.process.resident_kb()),
        ]


def _readings(bench: Bench) -> Table:
    with ExitStack() as stack:
        agent = stack.enter_context(bench.agent(lines=HOST_ONLY))
        collectors = _collectors(agent)
        only = ["--collector.disable-defaults", "--web.disable-exporter-metrics", *(f"--collector.{name}" for name in collectors)]
        node = stack.enter_context(peers.node_exporter(bench.new_folder(NODE), *only))
        readers = {OURS: Reader(agent, agent.read, agent.read()), NODE: Reader(node, node.read, node.read())}
        # The first reading of each is another one: threads and memory are there afterwards.
        seconds = alternate({name: reader.turn for name, reader in readers.items()}, bench.rounds(30, 4), pace=PACE)
        ours, peer = readers[OURS], readers[NODE]
        rows = [reader.row(name, seconds[name]) for name, reader in readers.items()]
        memory = {name: reader.process.resident_kb() for name, reader in readers.items()}
    absent = sorted(name for name in peer.page.names() - ours.page.names() if name.startswith(KERNEL))
    return Table(
        "One reading",
        ["", "Wall", "CPU", "Wake-ups", "Samples", f"Names `{KERNEL}*`", "Bytes", "Memory"],
        rows,
        [
            "Medians. Both are asked for the same subjects: node_exporter runs with only those of its collectors that ours has too",
            f"({', '.join(collectors)}) and without metrics of its own; ours shows how each collector fared besides.",
            f"What node_exporter has beyond that: {', '.join(f'`{name}`' for name in absent) or 'nothing'}.",
        ],
        [
            _against("host.cpu", "facts of the host, CPU", median(ours.cpu_ms), median(peer.cpu_ms), "ms", 0.5, readme=True),
            _against("host.wall", "facts of the host, wall", median(seconds[OURS]) * 1000, median(seconds[NODE]) * 1000, "ms"),
            _against("host.memory", "facts of the host, memory", memory[OURS] / 1024, memory[NODE] / 1024, "MB"),
        ],
    )


def _pushes(bench: Bench) -> Table:
    """All push at the same time, each to a port of its own."""
    plugins = "\n".join(f"LoadPlugin {name}" for name in PLUGINS)
    with ExitStack() as stack:
        sinks = {name: stack.enter_context(Sink()) for name in (OURS, COLLECTD, "both")}
        graphite = {name: f'[graphite]\naddress = "127.0.0.1:{sink.port}"\ninterval = "{PUSH_INTERVAL}s"\n' for name, sink in sinks.items()}
        node = f'<Node "bench">\nHost "127.0.0.1"\nPort "{sinks[COLLECTD].port}"\nProtocol "tcp"\n</Node>'
        lines = f"{plugins}\nLoadPlugin write_graphite\n<Plugin write_graphite>\n{node}\n</Plugin>"
        history = '[history]\ninterval = "1h"\n'
        pushers: dict[str, Process] = {
            OURS: stack.enter_context(bench.agent(lines=HOST_ONLY + history + graphite[OURS])),
            COLLECTD: stack.enter_context(peers.collectd(bench.new_folder(COLLECTD), lines, interval=PUSH_INTERVAL)),
            "both": stack.enter_context(bench.agent(bench.loaded, lines="[host]\nenabled = true\n" + history + graphite["both"])),
        }
        for name, sink in sinks.items():
            pushers[name].wait_for("points", lambda sink=sink: sink.points or None)
        # The first walk over all databases, and collectd's first values, are not what is measured.
        time.sleep(3 * PUSH_INTERVAL)
        before = {name: sink.points for name, sink in sinks.items()}
        pushes = bench.rounds(30, 5)
        cpu = _over(pushers, pushes * PUSH_INTERVAL)
        points = {name: (sink.points - before[name]) / pushes for name, sink in sinks.items()}
        memory = {name: pusher.resident_kb() for name, pusher in pushers.items()}
    named = {OURS: f"{OURS}, the host", COLLECTD: f"{COLLECTD}, the host", "both": f"{OURS}, the host and a server"}
    rows = [
        [named[name], written(spent.cpu_ms / pushes, "ms"), f"{points[name]:,.0f}", _per_point(spent, pushes, points[name]), megabytes(memory[name])]
        for name, spent in cpu.items()
    ]
    return Table(
        "One push to Graphite",
        ["", "CPU", "Points", "CPU per 1,000 points", "Memory"],
        rows,
        [
            f"Every {PUSH_INTERVAL} s, a reading each time. collectd has the plugins for the same subjects ({', '.join(PLUGINS)}) and",
            "`write_graphite`; it gives fewer points of them. The server is the loaded one.",
        ],
        [
            _against(
                "host.push_cpu",
                "a push of the host's facts, CPU by 1,000 points, against collectd",
                cpu[OURS].cpu_ms / pushes / points[OURS] * 1000,
                cpu[COLLECTD].cpu_ms / pushes / points[COLLECTD] * 1000,
                "ms",
            )
        ],
    )


def _idling(bench: Bench) -> Table:
    """Everybody idles in the same span."""
    seconds = bench.rounds(61, 11)
    with ExitStack() as stack:
        server = bench.loaded
        idle: dict[str, Process] = {
            OURS: stack.enter_context(bench.agent(server, lines="")),
            f"{OURS} without a history": stack.enter_context(bench.agent(server, lines='[history]\ninterval = "1h"\n')),
            POSTGRES: stack.enter_context(peers.postgres_exporter(server, bench.new_folder(POSTGRES))),
            NODE: stack.enter_context(peers.node_exporter(bench.new_folder(NODE))),
        }
        for process in idle.values():
            _read_once(process)
        time.sleep(1)
        meter = server.meter("monitor")
        spent = _over(idle, seconds)
        cost = meter.stop()
        rows = [
            [
                name,
                written(each.cpu_ms / seconds * 60, "ms"),
                written(each.wake_ups / seconds, ""),
                f"{idle[name].threads()}",
                megabytes(idle[name].resident_kb()),
            ]
            for name, each in spent.items()
        ]
    ours, theirs = spent[OURS], [spent[POSTGRES], spent[NODE]]
    return Table(
        "Nobody reads",
        ["", "CPU per minute", "Wake-ups per second", "Threads", "Memory"],
        rows,
        [
            "Each was read once before. Ours looks every ten seconds at the counters that checks of rates look back on, and every 30 s",
            "for clusters where none is named; both exporters do nothing. Without a history is one with an interval of an hour. What the",
            f"history asks costs the server {written(cost.cpu_ms / seconds * 60, 'ms')} of CPU per minute.",
        ],
        [
            Ratio("host.idle_cpu", "CPU in a minute in which nobody reads", ours.cpu_ms / seconds * 60, unit="ms"),
            Ratio(
                "host.idle_wake_ups",
                "wake-ups while nobody reads, against both exporters",
                ours.wake_ups / max(1, sum(each.wake_ups for each in theirs)),
                ours=written(ours.wake_ups / seconds, "") + " per second",
                peer=written(sum(each.wake_ups for each in theirs) / seconds, "") + " per second",
                slack=0.5,
            ),
        ],
    )


def _read_once(process: Process) -> None:
    if isinstance(process, Agent | peers.Exporter):
        process.read()


def _collectors(agent: Agent) -> list[str]:
    """Those of the host, as its own page names them."""
    found = re.findall(r'^pgvitals_collector_success\{collector="(\w+)"\}', agent.read().text(), re.MULTILINE)
    if not found:
        raise RuntimeError("the page names no collector of the host")
    return found


@dataclass(frozen=True)
class Spent:
    """What a process spent in a span."""

    cpu_ms: float
    wake_ups: int


class Meter:
    """Counts from now on."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._cpu_ns = process.cpu_ns()
        self._waited = _waited(process)

    def stop(self) -> Spent:
        """What was spent since."""
        before = self._waited
        now = _waited(self._process)
        # Threads that ended have taken their counts with them.
        wake_ups = sum(max(0, count - before.get(thread, 0)) for thread, count in now.items())
        return Spent((self._process.cpu_ns() - self._cpu_ns) / 1e6, wake_ups)


def _over(processes: Mapping[str, Process], seconds: float) -> dict[str, Spent]:
    meters = {name: Meter(process) for name, process in processes.items()}
    time.sleep(seconds)
    return {name: meter.stop() for name, meter in meters.items()}


def _waited(process: Process) -> dict[str, int]:
    """How often each thread of it that lives has waited for something."""
    counts = {}
    for status in Path(f"/proc/{process.pid}/task").glob("*/status"):
        try:
            found = re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status.read_text(), re.MULTILINE)
        except OSError:
            continue  # it has just ended
        counts[status.parent.name] = int(found[1]) if found else 0
    return counts


def _per_point(spent: Spent, pushes: int, points: float) -> str:
    return written(spent.cpu_ms / pushes / points * 1000, "ms") if points else ""


def _against(
    name: str, text: str, ours: float, peer: float, unit: str, goal: float | None = None, *, readme: bool = False
) -> Ratio:
    return Ratio(name, text, ours / peer, goal, ours=written(ours, unit), peer=written(peer, unit), readme=readme)


class Sink:
    """Takes what carbon would take, and counts the points."""

    def __init__(self) -> None:
        self.points = 0
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._door.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            threading.Thread(target=self._drain, args=(client,), daemon=True).start()

    def _drain(self, client: socket.socket) -> None:
        with client:
            while piece := client.recv(1 << 16):
                self.points += piece.count(b"\n")
