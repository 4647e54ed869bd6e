"""Ten command lines of each plugin for Nagios, and ten checks of our own: how long they take, and in how much memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import peers
import visits
from bench import Bench
from process import peak_kb_of, run
from server import PORT, Server
from table import Ratio, Table, megabytes, milliseconds
from timing import alternate, median

TITLE = "Checks"

CHECK_POSTGRES = {
    "connection": "",
    "backends": "",
    "database_size": "-w 1TB",
    "locks": "",
    "query_time": "-w 1h",
    "txn_idle": "-w 1h",
    "autovac_freeze": "",
    "sequence": "",
    "wal_files": "",
    "last_vacuum": "-w 1d",
}
CHECK_PGACTIVITY = {
    "connection": "",
    "backends": "-w 80% -c 90%",
    "database_size": "",
    "locks": "-w 80% -c 90%",
    "longest_query": "-w 1h -c 2h",
    "max_freeze_age": "",
    "hit_ratio": "",
    "wal_files": "",
    "uptime": "",
    "oldest_idlexact": "-w 1h -c 2h",
}
OWN = (
    "online",
    "connections",
    "database-size",
    "locks",
    "long-transaction",
    "idle-in-transaction",
    "wraparound",
    "sequences",
    "wal-size",
    "replication-lag",
)
ORIGINAL, DIRECT, AGENT = "the original", "pgvitals", "with an agent"
MEASURES = [f"{way}, {what}" for way in (ORIGINAL, DIRECT, AGENT) for what in ("time", "memory")]
COLUMNS = ("", *MEASURES, "direct by the original", "agent by the original")
# So many of the slowest are measured beside a bare client.
SLOWEST = 5


@dataclass(frozen=True)
class Way:
    """One way to have a check answered: median seconds and peak kB of the largest process."""

    command: Sequence[str]
    seconds: float
    peak_kb: int

    def cells(self) -> list[str]:
        """As they stand in a table."""
        return [milliseconds(self.seconds), megabytes(self.peak_kb)]


Ways = Mapping[str, Way]


def measure(bench: Bench) -> list[Table]:
    """The two plugins, then ours."""
    server, folder = bench.loaded, bench.new_folder("checks")
    for name in ("check_postgres", "check_pgactivity"):
        (folder / name).symlink_to(bench.program)
    with bench.agent(server) as agent:
        agent.read()
        by_agent = ["--agent", f"http://{agent.address}"]
        postgres = {
            f"check_postgres {action}": _postgres(bench, folder, server, by_agent, [f"--action={action}", *options.split()])
            for action, options in _few(bench, CHECK_POSTGRES.items())
        }
        pgactivity = {
            f"check_pgactivity {service}": _pgactivity(bench, folder, server, by_agent, ["-s", service, *options.split()])
            for service, options in _few(bench, CHECK_PGACTIVITY.items())
        }
        own = {f"pgvitals check {name}": _own(bench, server, by_agent, name) for name in _few(bench, OWN)}
    slowest = _slowest({**postgres, **pgactivity, **own})
    bench.say(f"beside a bare client: {', '.join(slowest)}")
    compared = visits.compare(bench, server, slowest, _environment(folder))
    return [
        _plugin_table("check_postgres", postgres),
        _plugin_table("check_pgactivity", pgactivity),
        _both(postgres, pgactivity),
        _own_table(own),
        _bare_table(compared),
    ]


def _few(bench: Bench, all_of_them: Iterable[Any]) -> list[Any]:
    return list(all_of_them)[: 2 if bench.short else None]


def _postgres(bench: Bench, folder: Path, server: Server, by_agent: Sequence[str], options: Sequence[str]) -> Ways:
    original = peers.check_postgres(server, *options)
    ours = str(folder / "check_postgres")
    return _measure(bench, folder, {ORIGINAL: original, DIRECT: [ours, *original[1:]], AGENT: [ours, *by_agent, *options]})


def _pgactivity(bench: Bench, folder: Path, server: Server, by_agent: Sequence[str], options: Sequence[str]) -> Ways:
    original = peers.check_pgactivity(server, folder / "original.status", *options)
    direct = peers.check_pgactivity(server, folder / "direct.status", *options)
    agent = peers.check_pgactivity(server, folder / "agent.status", *options)
    ours = str(folder / "check_pgactivity")
    agent = [ours, *by_agent, *options, *agent[agent.index("--status-file") :][:2]]
    return _measure(bench, folder, {ORIGINAL: original, DIRECT: [ours, *direct[1:]], AGENT: agent})


def _own(bench: Bench, server: Server, by_agent: Sequence[str], name: str) -> Ways:
    check = [str(bench.program), "check", name]
    place = ["-H", str(server.folder), "-p", str(PORT), "-U", "monitor"]
    return _measure(bench, bench.folder, {DIRECT: [*check, *place], AGENT: [*check, *by_agent]})


def _measure(bench: Bench, home: Path, commands: Mapping[str, Sequence[str]]) -> Ways:
    """The ways take turns; each is run once before, as its file and the server's caches are then warm for all."""
    environment = _environment(home)
    for name, command in commands.items():
        code = run(command, environment).code
        if code not in (0, 1, 2, 3):
            raise RuntimeError(f"{name} ends with {code}: {' '.join(command)}")
    turns: dict[str, Callable[[], float]] = {name: partial(_seconds_of, command, environment) for name, command in commands.items()}
    taken = alternate(turns, bench.rounds(15))
    return {name: Way(command, median(taken[name]), peak_kb_of(command, environment)) for name, command in commands.items()}


def _environment(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "LC_ALL": "C"}


def _slowest(checks: Mapping[str, Ways]) -> dict[str, Sequence[str]]:
    """The commands of those that take longest when they ask the server themselves."""
    names = sorted(checks, key=lambda name: checks[name][DIRECT].seconds, reverse=True)
    return {name: checks[name][DIRECT].command for name in names[:SLOWEST]}


def _seconds_of(command: Sequence[str], environment: Mapping[str, str]) -> float:
    return run(command, environment).seconds


def _plugin_table(plugin: str, checks: Mapping[str, Ways]) -> Table:
    rows = []
    for name, ways in checks.items():
        cells = [cell for way in (ORIGINAL, DIRECT, AGENT) for cell in ways[way].cells()]
        rows.append([f"`{name}`", *cells, *(f"{_by_original(ways, way):.2f}" for way in (DIRECT, AGENT))])
    return Table(f"Command lines of {plugin}", COLUMNS, rows)


def _both(*plugins: Mapping[str, Ways]) -> Table:
    checks = {name: ways for plugin in plugins for name, ways in plugin.items()}
    rows, ratios = [], []
    for way, key, limit in ((DIRECT, "direct", 10.0), (AGENT, "by agent", 5.0)):
        text = f"a plugin's check, {key}"
        worst = max(checks, key=lambda name: _by_original(checks[name], way))
        slowest = max(checks, key=lambda name: checks[name][way].seconds)
        largest = max(checks, key=lambda name: checks[name][way].peak_kb / checks[name][ORIGINAL].peak_kb)
        typical = median([_by_original(ways, way) for ways in checks.values()])
        rows.append([way, f"{typical:.2f}", f"{_by_original(checks[worst], way):.2f}, `{worst}`", f"`{slowest}`", f"`{largest}`"])
        seconds = median([ways[way].seconds for ways in checks.values()])
        original = median([ways[ORIGINAL].seconds for ways in checks.values()])
        kilobytes = median([ways[way].peak_kb for ways in checks.values()])
        kilobytes_of_original = median([ways[ORIGINAL].peak_kb for ways in checks.values()])
        memory = median([ways[way].peak_kb / ways[ORIGINAL].peak_kb for ways in checks.values()])
        ratios += [
            Ratio(
                f"checks.{_key(way)}",
                f"{text}, median of {len(checks)}",
                typical,
                1 / 10,
                ours=milliseconds(seconds),
                peer=milliseconds(original),
                readme=True,
            ),
            Ratio(f"checks.{_key(way)}_worst", f"{text}, the worst ratio", _by_original(checks[worst], way), 1 / 10),
            Ratio(f"checks.{_key(way)}_ms", f"{text}, median of {len(checks)}", seconds * 1000, limit, "ms"),
            Ratio(f"checks.{_key(way)}_slowest_ms", f"{text}, the slowest", checks[slowest][way].seconds * 1000, limit, "ms"),
            Ratio(
                f"checks.{_key(way)}_memory",
                f"{text}, peak memory",
                memory,
                1 / 3,
                ours=megabytes(kilobytes),
                peer=megabytes(kilobytes_of_original),
                readme=way == DIRECT,
            ),
        ]
    return Table(
        f"All {len(checks)}",
        ("By the original's", "time, median", "time, the worst", "the slowest", "the largest by the original's"),
        rows,
        ["Memory is the peak of the largest process, by `time`; the originals start Perl, and that starts psql."],
        ratios,
    )


def _own_table(own: Mapping[str, Ways]) -> Table:
    rows = [[f"`{name}`", *ways[DIRECT].cells(), *ways[AGENT].cells()] for name, ways in own.items()]
    ratios = []
    for way, key, limit in ((DIRECT, "direct", 10.0), (AGENT, "by agent", 5.0)):
        times = {name: ways[way].seconds * 1000 for name, ways in own.items()}
        slowest = max(times, key=lambda name: times[name])
        ratios += [
            Ratio(
                f"checks.own_{_key(way)}_ms",
                f"`pgvitals check`, {key}, median of {len(own)}",
                median(list(times.values())),
                limit,
                "ms",
            ),
            Ratio(f"checks.own_{_key(way)}_slowest_ms", f"`{slowest}`, {key}, the slowest of these", times[slowest], limit, "ms"),
        ]
    return Table(
        "Our own checks", ("", "direct, time", "direct, memory", "with an agent, time", "with an agent, memory"), rows, (), ratios
    )


def _bare_table(compared: Mapping[str, visits.Compared]) -> Table:
    worst = max(compared, key=lambda name: compared[name].ratio)
    ours, bare = (milliseconds(seconds) for seconds in (compared[worst].check, compared[worst].bare))
    return Table(
        "The slowest, and what the server takes for them",
        ("", "direct, time", "a bare client, time", "of it connecting", "Its sessions", "direct by the bare client"),
        [
            [
                f"`{name}`",
                *(milliseconds(seconds) for seconds in (each.check, each.bare, each.connecting)),
                str(each.sessions),
                f"{each.ratio:.2f}",
            ]
            for name, each in compared.items()
        ],
        [
            "The bare client takes the statement that takes longest in the check, by the server's log, and the databases in which it",
            "is asked. To each it connects as the check does, asks that and nothing else, and throws the answer away. No program",
            "is started for it. What it takes is the server's: the start of a process that knows nothing yet, and the statement.",
        ],
        [Ratio("checks.direct_by_bare", f"`{worst}`, direct, by a bare client", compared[worst].ratio, None, ours=ours, peer=bare)],
    )


def _key(way: str) -> str:
    return "direct" if way == DIRECT else "agent"


def _by_original(ways: Ways, way: str) -> float:
    return ways[way].seconds / ways[ORIGINAL].seconds
