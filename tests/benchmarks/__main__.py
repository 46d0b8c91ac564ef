"""Speed and memory as ratios to the bare model; nothing is asserted, a time is a property of the machine.

    python -m tests.benchmarks                          # every case, the defaults of a CPU: about an hour
    python -m tests.benchmarks --quick                  # every case that is quick, on tiny models
    python -m tests.benchmarks forward detection --models timm-b timm-l --dtype fp32 bf16 --batches 1 8
    python -m tests.benchmarks --gpu-session --device cuda --out gpu.json

On a machine that others share, OMP_NUM_THREADS=1 and --clock cpu (processor seconds) disturb least.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tests.benchmarks.machine import load_of_the_last_minute, machine, start_steady

if __name__ == "__main__":
    start_steady()

from rich.console import Console

from tests.benchmarks import report as reports
from tests.benchmarks import session
from tests.benchmarks.cases import CASES
from tests.benchmarks.models import MODELS
from tests.benchmarks.raced import OUT_OF_TIME
from tests.benchmarks.results import LeftOut, Measured, Report, Row, Tabled
from tests.benchmarks.settings import ON_GPU, QUICK, Settings


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Return the options; those that were not given are absent."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; none: all")
    parser.add_argument("--quick", action="store_true", help="tiny models, few rounds, under a minute")
    parser.add_argument("--gpu-session", action="store_true", help="the whole GPU table, with a deadline")
    parser.add_argument("--minutes", type=float, help=f"deadline of that, {session.MINUTES:g} unless given")
    parser.add_argument("--device")
    parser.add_argument("--dtype", nargs="+", dest="dtypes", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS))
    parser.add_argument("--batches", nargs="+", type=int)
    parser.add_argument("--registers", nargs="+", type=int)
    parser.add_argument("--ways", nargs="+", choices=("eager", "graph", "compiled"))
    parser.add_argument("--images", nargs="+", type=int, help="of a detection, and of the sets of files")
    parser.add_argument("--backbone", help="of the cases about files and the page")
    parser.add_argument("--seconds", type=float, help="of a race")
    parser.add_argument("--rounds", type=int, help="of a race, whatever fits; an even number")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--clock", choices=("wall", "cpu"))
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="no peaks on a CPU")
    parser.add_argument("--out", type=Path, help="JSON file, written after each case")
    parser.add_argument("--into", type=Path, nargs="+", help="pages whose marked tables are written anew")
    parser.add_argument(
        "--of",
        type=Path,
        nargs="+",
        help="show these files of one machine, or write them --into pages; run nothing",
    )
    given = parser.parse_args(arguments)
    unknown = [case for case in getattr(given, "cases", []) if case not in CASES]
    if unknown:
        parser.error(f"no case {', '.join(unknown)}; choose from {', '.join(CASES)}")
    return given


def settings_of(given: argparse.Namespace) -> Settings:
    """Return the settings: the defaults of the device, then ``--quick``, then what was given."""
    named = vars(given)
    asked: dict[str, Any] = {
        field.name: tuple(value) if isinstance(value := named[field.name], list) else value
        for field in fields(Settings)
        if field.name in named
    }
    on_gpu = Settings(**{"device": asked.get("device", "cpu")}).on_gpu
    defaults = {**(ON_GPU if on_gpu else {}), **(QUICK if named.get("quick") else {})}
    settings = Settings(**{**defaults, **asked})
    if "seconds" in named:
        settings = replace(settings, budget=replace(settings.budget, seconds=named["seconds"]))
    if "rounds" in named:
        rounds = {"fewest": named["rounds"], "most": named["rounds"]}
        settings = replace(settings, budget=replace(settings.budget, **rounds))
    return settings


def run(settings: Settings, planned: list[tuple[str, Settings]], out: Path | None, seconds: float) -> Report:
    """Run the planned cases until the seconds are over; the file is written after each case."""
    end = time.monotonic() + seconds
    found: list[Row] = []
    dtypes = tuple(dict.fromkeys(dtype for _, own in planned for dtype in own.dtypes))
    report = Report(machine=machine(replace(settings, dtypes=dtypes)))
    for case, own in planned:
        begun = time.monotonic()
        for row in _within(case, replace(own, until=end)):
            found.append(row)
            print(_line(row), file=sys.stderr, flush=True)
        print(f"  {case}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
        load = (report.machine.load[0], load_of_the_last_minute())
        report = Report(
            machine=report.machine.model_copy(update={"load": load}),
            measured=tuple(row for row in found if isinstance(row, Measured)),
            tables=tuple(row for row in found if isinstance(row, Tabled)),
            left_out=tuple(row for row in found if isinstance(row, LeftOut)),
        )
        if out is not None:
            report.write(out)
    return report


def _within(case: str, settings: Settings) -> Iterator[Row]:
    """Yield the rows of a case; one that fails or is out of time says so and the next goes on."""
    if time.monotonic() > settings.until:
        yield LeftOut(case=case, what=" ".join(settings.models), reason=OUT_OF_TIME)
        return
    try:
        for row in CASES[case](settings):
            yield row
            if isinstance(row, LeftOut) and row.reason == OUT_OF_TIME:
                return
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0][:300]
        yield LeftOut(case=case, what=" ".join(settings.models), reason=f"{type(error).__name__}: {said}")


def _line(row: Row) -> str:
    if isinstance(row, Measured):
        where = f"{row.model} {row.dtype} batch {row.batch} {row.way}"
        return f"  {row.case} {where}: {row.what} to {row.against} {row.ratio:.3f}"
    return f"  {row.case}: {row.title if isinstance(row, Tabled) else f'left out, {row.what}: {row.reason}'}"


def main(arguments: list[str] | None = None) -> Report:
    """Run what the command line asks for, print it, and return it."""
    given = parsed(sys.argv[1:] if arguments is None else arguments)
    if hasattr(given, "of"):
        return published(Report.joined([Report.read(path) for path in given.of]), given)
    settings = settings_of(given)
    if getattr(given, "gpu_session", False):
        planned, minutes = session.plan(settings), getattr(given, "minutes", session.MINUTES)
    else:
        names = getattr(given, "cases", []) or list(CASES)
        planned, minutes = [(name, settings) for name in names], getattr(given, "minutes", float("inf"))
    report = run(settings, planned, getattr(given, "out", None), 60 * minutes)
    return published(report, given)


def published(report: Report, given: argparse.Namespace) -> Report:
    """Print a report, write it into the pages that were named, and return it."""
    reports.show(report, Console(width=200, highlight=False))
    for page in getattr(given, "into", []):
        reports.write_into(report, page)
    return report


if __name__ == "__main__":
    main()
