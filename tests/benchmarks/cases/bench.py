"""What ``ttr bench`` costs a second time, and whether the memory of features grows with the set."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import ttr
from tests.benchmarks import memory
from tests.benchmarks.made_files import made_set
from tests.benchmarks.results import LeftOut, Row, Tabled
from tests.benchmarks.settings import Settings
from ttr.features.extract import extract
from ttr.registers.arms import arms
from ttr.run import Run
from ttr.studies.bench.write import write_bench

MODULE = "tests.benchmarks.cases.bench"
#: From 320 images on, as many chunks as ever will be are in flight.
COUNTS = (320, 1280, 2560)


def bench(settings: Settings) -> Iterator[Row]:
    """Yield the cost of a repeated study and of a repeated command, and the memory of features by count."""
    if settings.quick:
        yield LeftOut(case="bench", what="repeats and memory", reason="takes minutes; leave out --quick")
        return
    with tempfile.TemporaryDirectory() as name:
        yield _repeated_study(settings, Path(name) / "study")
        yield _repeated_command(Path(name) / "command")
        yield _memory(Path(name) / "memory")


def _repeated_study(settings: Settings, folder: Path) -> Tabled:
    folder.mkdir()
    backbone = ttr.load(settings.backbone, device=settings.device)
    dataset = made_set(folder, settings.images[0])
    run = Run(cache=folder / "cache", batch_size=settings.batches[-1])
    used = []
    for number in range(3):
        start = time.perf_counter()
        write_bench(backbone, dataset, None, folder / f"out{number}", run=run)
        used.append(time.perf_counter() - start)
    return _repeats("A study with a full cache", "wall seconds", used)


def _repeated_command(folder: Path) -> Tabled:
    used = []
    for number in range(3):
        command = [sys.executable, "-m", "ttr", "bench", "--dataset", "phantom", "--backbone", "phantom"]
        command += ["--out", str(folder / f"out{number}"), "--cache", str(folder / "cache"), "--quiet"]
        before = _cpu_of_children()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        used.append(_cpu_of_children() - before)
    return _repeats("ttr bench of the phantom set with a full cache, imports and all", "CPU seconds", used)


def _repeats(title: str, unit: str, used: list[float]) -> Tabled:
    rows = tuple((number, seconds, seconds / used[0]) for number, seconds in enumerate(used, start=1))
    return Tabled(
        case="bench", title=f"{title}; target below .05", columns=("run", unit, "to the first"), rows=rows
    )


def _cpu_of_children() -> float:
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def _memory(folder: Path) -> Tabled:
    folder.mkdir()
    grown = tuple((count, *memory.of_child(MODULE, folder, count)) for count in COUNTS)
    title = "Peak memory of features beyond the loaded phantom, each a process of its own"
    return Tabled(case="bench", title=title, columns=("images", "MiB"), rows=grown)


def _child(folder: str, count: str) -> None:
    """Print by how many MiB one run of features lifts this process's high-water mark."""
    backbone = ttr.load("phantom")
    plain = arms(("plain",), backbone, ttr.RegisterNeurons.from_pairs([(1, 7)]))
    dataset = made_set(Path(folder), int(count))
    with tempfile.TemporaryDirectory() as cache:
        run = Run(cache=Path(cache))
        print(memory.high_water(lambda: extract(backbone, dataset, plain, run)))


if __name__ == "__main__":
    _child(*sys.argv[1:])
