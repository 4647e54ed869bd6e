"""Ours: an agent with a configuration, and what it says of itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from process import Process
from server import Server
from timing import Page, fetch

# What the peers do not have either: facts of the host, and counters kept for checks of rates.
SERVERS_ONLY = '[host]\nenabled = false\n[history]\ninterval = "1h"\n'


class Agent(Process):
    """`pgvitals serve`, for these servers as this role; `lines` of the configuration begin with a section, nothing is the default.
    `checks` is the folder of definitions that replace ours."""

    def __init__(
        self,
        program: Path,
        folder: Path,
        servers: Sequence[Server],
        *,
        role: str = "monitor",
        lines: str = SERVERS_ONLY,
        checks: Path | None = None,
    ) -> None:
        self.configuration = folder / "pgvitals.toml"
        top = f'checks = "{checks}"\n' if checks else ""
        named = "".join(
            f'[[server]]\nname = "bench{number}"\ndsn = "{server.dsn(role)}"\n' for number, server in enumerate(servers, 1)
        )
        self.configuration.write_text(top + lines + named)
        super().__init__([program, "serve", "--config", self.configuration, "--listen", "127.0.0.1:0"], log=folder / "agent.log")
        try:
            self.address = self.wait_for("its address", self._listening)
        except BaseException:
            self.end()
            raise

    def read(self, query: str = "", *, compressed: bool = False) -> Page:
        """A reading: /metrics with this query, such as `?collect[]=locks`."""
        return fetch(self.address, f"/metrics{query}", compressed=compressed)

    def counted(self, name: str, query: str = "") -> dict[str, float]:
        """The samples of one name in a reading, by their labels as they are written."""
        return self.read(query).counted(name)

    def wait_for_walk(self) -> None:
        """Until it has been in all databases of all servers, which it does behind a reading that somebody asked for."""
        self.wait_for("the walk over the databases", self._walked)

    def _walked(self) -> bool | None:
        walks = self.counted("pgvitals_databases_walks_total", "?collect[]=server").values()
        return True if walks and all(walks) else None

    def _listening(self) -> str | None:
        found = re.search(r"listening address=(\S+)", self.log.read_text(errors="replace"))
        return found[1] if found else None
