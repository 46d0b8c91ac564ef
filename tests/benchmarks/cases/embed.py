"""``ttr embed`` with one process and with two, from files to shards, to a bare loop over batches in memory.

What a process needs to start (imports, the model) is measured beside it, on a few images, and taken off: a
rate is what counts for many images.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import torch

import ttr
from tests.benchmarks import models
from tests.benchmarks.made_files import made_set
from tests.benchmarks.raced import Against, rows
from tests.benchmarks.racing import wall_clock
from tests.benchmarks.results import LeftOut, Row
from tests.benchmarks.settings import Settings
from ttr.cli.main import app

TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
FEW = 2


def embed(settings: Settings) -> Iterator[Row]:
    """Yield the throughput of the command, or that there is none."""
    if "embed" not in {command.name or command.callback.__name__ for command in app.registered_commands}:
        yield LeftOut(case="embed", what="ttr embed", reason="this version of ttr has no such command")
        return
    if settings.quick:
        yield LeftOut(case="embed", what="ttr embed", reason="starts many processes; leave out --quick")
        return
    with tempfile.TemporaryDirectory() as name:
        tasks, pixels = _tasks(settings, Path(name))
        asked = [
            Against("1 process", "bare", 0.95),
            Against("2 processes", "bare"),
            Against("2 processes", "1 process"),
        ]
        common = {"case": "embed", "of": "throughput", "model": settings.backbone, "pixels": pixels}
        common |= {"images": settings.images[0], "batch": settings.batches[-1], "dtype": "fp32"}
        starts = {"1 process": "start of 1", "2 processes": "start of 2"}
        try:
            # The clock of this process's own seconds would not see what others do.
            clock = wall_clock(settings.synchronize)
            yield from rows(settings, tasks, asked, clock, starts=starts, **common)
        except subprocess.CalledProcessError as error:
            said = (error.stderr.strip().splitlines() or ["nothing was said"])[-1]
            yield LeftOut(case="embed", what="ttr embed", reason=f"exit status {error.returncode}: {said}")


def _tasks(settings: Settings, home: Path) -> tuple[dict[str, Callable[[], object]], int]:
    """Return a bare loop over the images, and the command over them and over a few, and their size."""
    backbone, fresh = ttr.load(settings.backbone, device=settings.device), count()
    few, all_of_them = home / "few", home / "images"
    few.mkdir()
    all_of_them.mkdir()
    made_set(few, FEW)
    dataset = made_set(all_of_them, settings.images[0] + FEW)
    ready = torch.stack([backbone.preprocess(dataset.open(item)) for item in dataset.items[FEW:]])

    def bare() -> None:
        call = models.forward(backbone)
        for part in ready.split(settings.batches[-1]):
            call(part.to(backbone.device, backbone.dtype)).cpu()

    def command(start: tuple[str, ...], images: Path, shard: int) -> None:
        words = [sys.executable, "-m", *start, "ttr", "embed", "--backbone", settings.backbone]
        words += ["--device", settings.device, "--batch-size", str(settings.batches[-1])]
        words += [
            "--images",
            str(images),
            "--shard-size",
            str(shard),
            "--out",
            str(home / f"out{next(fresh)}"),
        ]
        subprocess.run(words, check=True, capture_output=True, text=True)

    tasks: dict[str, Callable[[], object]] = {"bare": bare}
    for number, start in ((1, ()), (2, TORCHRUN)):
        what = "1 process" if number == 1 else "2 processes"
        tasks[what] = partial(command, start, all_of_them, max(1, len(dataset.items) // 4))
        tasks[f"start of {number}"] = partial(command, start, few, 1)
    return tasks, int(ready.shape[-1])
