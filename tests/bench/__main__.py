"""Measures pgvitals beside the programs it is to replace, on one server, in one run.

python3 tests/bench                 every part; writes docs/benchmarks.md, docs/benchmarks.json and the table of the README
python3 tests/bench reading checks  these parts; what was written of the others stays
python3 tests/bench --short         little of everything, printed only
python3 tests/bench --compare       says which ratio became worse than the committed one by more than a quarter; writes nothing
python3 tests/bench --render        writes the documents anew from docs/benchmarks.json; measures nothing

PGVITALS_PROGRAM names the program, PGVITALS_SERVERS the folder of the servers, ROUNDS how often everything is measured.
"""

from __future__ import annotations

import argparse
import resource
import signal
import sys
from types import FrameType

import parts
import report
from bench import Bench
from table import Part, Table


def main() -> int:
    """The exit code: 1 if something could not be measured, or became worse."""
    options = _options()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a thousand clients take more than a thousand
    if options.render:
        report.write(report.read())
        return 0
    committed = report.read()
    if options.compare and committed is None:
        raise SystemExit("there is no docs/benchmarks.json to compare with")
    with Bench(options.short) as bench:
        measured = _measure(bench, options.parts or parts.usual(options.short))
        new = report.Report.of(bench, measured)
    if not measured:
        return 0
    print(new.goals())
    if options.compare and committed:
        return report.compare(new, committed)
    if not options.short:
        report.write(new.over(committed))
    return 0


def _measure(bench: Bench, names: list[str]) -> dict[str, Part]:
    measured: dict[str, Part] = {}
    for name in names:
        module = parts.load(name)
        bench.say(f"== {module.TITLE}")
        tables = module.measure(bench)
        part = Part(module.TITLE, report.today(), [tables] if isinstance(tables, Table) else list(tables))
        for table in part.tables:
            print(f"\n{table.markdown()}", flush=True)
        if part.tables:
            measured[name] = part
    return measured


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts.names()))
    parser.add_argument("--short", action="store_true", help="little of everything, printed only")
    parser.add_argument("--compare", action="store_true", help="against docs/benchmarks.json")
    parser.add_argument("--render", action="store_true", help="the documents, from docs/benchmarks.json")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(parts.names()):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; there are {', '.join(parts.names())}")
    return options


def _leave(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)  # so that every `with` ends what it began


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
