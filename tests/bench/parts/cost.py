"""docs/cost.md: what a reading costs the server, as a whole and by collector, as the server itself counts it."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Sequence

import definitions
from agent import Agent
from bench import ROOT, Bench
from definitions import Definition
from server import Cost, Server
from table import Table, markdown_table, wrapped
from timing import Page

TITLE = "What a reading costs the server"

DOCUMENT = ROOT / "docs" / "cost.md"
# What decides what is asked next, whatever is wanted. A statement that is prepared by name has `PREPARE … AS` before it.
PROBE = "|".join(
    re.escape(text).replace("\\ ", " ")
    for text in (
        "SELECT pg_catalog.pg_is_in_recovery()",
        "SELECT datname FROM pg_catalog.pg_database",
        "SELECT DISTINCT pg_catalog.split_part(name",
        "SELECT pg_catalog.quote_ident(r.rolname)",
    )
)
IS_PROBE = rf"query ~* '^\s*(PREPARE [^(]+ (\(.*\) )?AS )?({PROBE})'"
# Longer than most results are used again.
PACE = 1.1


def measure(bench: Bench) -> list[Table]:
    """Writes the document; prints it when little is wanted."""
    server, catalog = bench.loaded, definitions.all_of(bench)
    text = _document(bench, _whole(bench, server), _by_collector(bench, server, catalog))
    if bench.short:
        print(text)
    else:
        DOCUMENT.write_text(text)
        print(f"written: {DOCUMENT.relative_to(ROOT)}")
    return []


def _whole(bench: Bench, server: Server) -> list[list[str]]:
    rounds = bench.rounds(5, 2)
    with bench.agent(server) as agent:
        bench.say("the first reading")
        meter = server.meter()
        page = agent.read()
        agent.wait_for_walk()
        first = [*_counted(meter.stop()), *_shown(page)]
        agent.read()
        bench.say("in steady state")
        time.sleep(PACE)
        meter = server.meter()
        for _ in range(rounds):
            page = agent.read()
            time.sleep(PACE)
        steady = [*_counted(meter.stop().each(rounds)), *_shown(page)]
        probe = [*_counted(_sum(server, IS_PROBE).each(rounds)), "0", "0"]
    if probe[0] == "0.0":
        raise RuntimeError("no statement of the agent looks like its probe: PROBE in parts/cost.py is out of date")
    return [
        ["the first", *first],
        [f"one in steady state, of {rounds} one after the other", *steady],
        ["of that the probe: up, role, version, privileges, databases", *probe],
    ]


def _by_collector(bench: Bench, server: Server, catalog: Sequence[Definition]) -> list[list[str]]:
    rows: list[tuple[float, list[str]]] = []
    folder = definitions.write_always_due(catalog, bench.new_folder("checks"))
    with bench.agent(server, checks=folder) as agent:
        for number, definition in enumerate(catalog, 1):
            if number % 10 == 0:
                bench.say(f"collector {number} of {len(catalog)}")
            if definition.scope == "database":
                (cost, page), note = _walk(bench, server, agent, definition.name), ", in each database"
            else:
                (cost, page), note = _runs(bench, server, agent, definition.name), ""
            if cost.calls:
                every = f"{definition.every}{note}"
                rows.append((cost.statements_ms, [f"`{definition.name}`", every, *_counted(cost), *_shown(page)]))
    return [row for _, row in sorted(rows, key=lambda each: -each[0])]


def _runs(bench: Bench, server: Server, agent: Agent, name: str) -> tuple[Cost, Page]:
    """Of one run, on a session that is warm."""
    query = definitions.query([name])
    page = agent.read(query)
    before = _runs_of(page, name)
    server.forget("monitor")
    for _ in range(bench.rounds(5, 2)):
        page = agent.read(query)
        time.sleep(0.05)
    times = _runs_of(page, name) - before
    return (_sum(server, f"NOT ({IS_PROBE})").each(times) if times else Cost()), page


def _walk(bench: Bench, server: Server, agent: Agent, name: str) -> tuple[Cost, Page]:
    """Of one run in each database, with the beginning of a session in each."""
    server.forget("monitor")
    command = [str(bench.program), "once", "--config", str(agent.configuration), name]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return _sum(server, f"NOT ({IS_PROBE})"), Page(0, 200, done.stdout)


def _runs_of(page: Page, collector: str) -> int:
    runs = page.counted("pgvitals_collector_runs_total")
    return int(sum(value for labels, value in runs.items() if f'collector="{collector}"' in labels))


def _sum(server: Server, condition: str) -> Cost:
    """What those statements cost since the last meter was made."""
    ((calls, execution, planning, rows),) = server.sql(
        "SELECT coalesce(sum(calls), 0), coalesce(sum(total_exec_time), 0), coalesce(sum(total_plan_time), 0), "
        "coalesce(sum(rows), 0) "
        f"FROM pg_stat_statements WHERE userid = 'monitor'::regrole AND {condition}"
    )
    return Cost(float(calls or 0), float(execution or 0), float(planning or 0), float(rows or 0))


def _counted(cost: Cost) -> list[str]:
    return [f"{cost.calls:.1f}", f"{cost.statements_ms:.2f}", f"{cost.rows:.0f}"]


def _shown(page: Page) -> list[str]:
    """Samples and bytes, without what the agent says of itself."""
    lines = [line for line in page.plain().splitlines() if line.startswith(b"pg_") and not line.startswith(b"pg_up")]
    return [str(len(lines)), str(sum(len(line) + 1 for line in lines))]


def _document(bench: Bench, whole: Sequence[Sequence[str]], collectors: Sequence[Sequence[str]]) -> str:
    version, cpus = bench.loaded.value("SHOW server_version"), os.cpu_count()
    tables, statements = (f"{number:,}" for number in bench.loaded_with)
    measures = ["Queries", "Server, ms", "Rows", "Samples", "Bytes"]
    by_collector = markdown_table(["Collector", "At most every", *measures], collectors)
    by_collector[1] = by_collector[1].replace("--:", "---", 1)
    return "\n".join(
        [
            "# What a reading costs",
            "",
            wrapped(
                [
                    f"Written by `make cost`, not by hand. One PostgreSQL {version} with 12 databases, {tables} tables and",
                    f"{statements} statements; every number is one that the server counted for the role of the agent, with",
                    "`pg_stat_statements`: queries, the milliseconds it planned and executed them, and the rows it gave. Samples",
                    "and bytes",
                    f"are those of `/metrics`, without the agent's own. The machine has {cpus} CPUs and other work to do, so",
                    "milliseconds",
                    "are to be compared with one another. What is not in them, parsing and the way there and back, is in the CPU",
                    "time of",
                    "[the benchmarks](benchmarks.md).",
                ]
            ),
            "",
            *markdown_table(["A reading", *measures], whole),
            "",
            wrapped(
                [
                    "By collector, each asked alone, the costliest first. A result is used again for the time given, however many",
                    "readers",
                    "there are; what takes the server longer is asked less often, so that no collector has more than one per cent",
                    "of its",
                    "time. What is asked in each database includes the beginning of a session in each.",
                ]
            ),
            "",
            *by_collector,
            "",
        ]
    )
