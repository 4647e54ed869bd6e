"""The programs that ours is measured beside, as Debian packages them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from process import Process
from server import PORT, Server
from timing import Page, fetch


def found(*names: str) -> Path:
    """Where a program is, or how it is installed."""
    for name in names:
        if path := shutil.which(name):
            return Path(path)
    raise SystemExit(f"{names[0]} is not installed: tests/setup bench")


class Exporter(Process):
    """One of Prometheus' exporters, on an address of its own choice."""

    def __init__(self, arguments: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None) -> None:
        super().__init__([*arguments, "--web.listen-address=127.0.0.1:0"], log=folder / "exporter.log", environment=environment)
        try:
            self.address = self.wait_for("its address", self._listening)
        except BaseException:
            self.end()
            raise

    def read(self, *, compressed: bool = False) -> Page:
        """A reading."""
        return fetch(self.address, compressed=compressed)

    def _listening(self) -> str | None:
        address = re.search(r"address=(127\.0\.0\.1:[1-9]\d*)", self.log.read_text(errors="replace"))
        return address[1] if address else None


def postgres_exporter(server: Server, folder: Path, *options: str, role: str = "exporter") -> Exporter:
    """prometheus-postgres-exporter, with its defaults."""
    source = {"DATA_SOURCE_NAME": f"{server.dsn(role)} sslmode=disable"}
    return Exporter([found("prometheus-postgres-exporter"), *options], folder, source)


def node_exporter(folder: Path, *options: str) -> Exporter:
    """prometheus-node-exporter, with its defaults."""
    return Exporter([found("prometheus-node-exporter"), *options], folder)


def collectd(folder: Path, lines: str, *, interval: float = 1) -> Process:
    """collectd with these lines of configuration (LoadPlugin, <Plugin>), reading at this interval in seconds."""
    program = found("collectd", "/usr/sbin/collectd")
    configuration = folder / "collectd.conf"
    files = f'BaseDir "{folder}"\nPIDFile "{folder}/collectd.pid"\nTypesDB "/usr/share/collectd/types.db"\n'
    configuration.write_text(f"{files}Interval {interval}\n{lines}\n")
    return Process([program, "-f", "-C", configuration], log=folder / "collectd.log")


def check_postgres(server: Server, *options: str) -> list[str]:
    """A command line of check_postgres."""
    return [str(found("check_postgres")), *options, "-H", str(server.folder), "-p", str(PORT), "-u", "monitor", "-db", "postgres"]


def check_pgactivity(server: Server, status: Path, *options: str) -> list[str]:
    """A command line of check_pgactivity, which keeps what it remembers in a file."""
    program = found("check_pgactivity", "/usr/lib/nagios/plugins/check_pgactivity")
    place = ["--status-file", str(status), "-h", str(server.folder), "-p", str(PORT), "-U", "monitor", "-d", "postgres"]
    return [str(program), *options, *place]
