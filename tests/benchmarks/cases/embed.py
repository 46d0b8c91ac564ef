"""``ttr embed`` with one process and with two, start and imports included, to a loop over ready batches."""

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
from tests.benchmarks.results import LeftOut, Row
from tests.benchmarks.settings import Settings
from ttr.cli.main import app

TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")


def embed(settings: Settings) -> Iterator[Row]:
    """Yield the throughput of the command, or that there is none."""
    if "embed" not in {command.name or command.callback.__name__ for command in app.registered_commands}:
        yield LeftOut(case="embed", what="ttr embed", reason="this version of ttr has no such command")
        return
    backbone = ttr.load(settings.backbone, device=settings.device)
    with tempfile.TemporaryDirectory() as name:
        folder, fresh = Path(name) / "images", count()
        folder.mkdir()
        dataset = made_set(folder, settings.images[0])
        ready = torch.stack([backbone.preprocess(dataset.open(item)) for item in dataset.items])

        def bare() -> None:
            for part in ready.split(settings.batches[-1]):
                models.forward(backbone)(part.to(backbone.device, backbone.dtype))

        command = ["embed", "--backbone", settings.backbone, "--device", settings.device]
        command += ["--images", str(folder), "--out"]
        tasks: dict[str, Callable[[], object]] = {"bare": bare}
        for what, start in (("1 process", ()), ("2 processes", TORCHRUN)):
            tasks[what] = partial(_ran, start, command, Path(name), fresh)
        asked = [
            Against("1 process", "bare", 0.95),
            Against("2 processes", "bare"),
            Against("2 processes", "1 process"),
        ]
        try:
            yield from rows(
                settings,
                tasks,
                asked,
                settings.host_clock,
                case="embed",
                of="throughput",
                model=backbone.name,
                images=len(ready),
                batch=settings.batches[-1],
            )
        except subprocess.CalledProcessError as error:
            said = (error.stderr.strip().splitlines() or ["nothing was said"])[-1]
            yield LeftOut(case="embed", what="ttr embed", reason=f"exit status {error.returncode}: {said}")


def _ran(start: tuple[str, ...], command: list[str], folder: Path, fresh: Iterator[int]) -> None:
    whole = [sys.executable, "-m", *start, "ttr", *command, str(folder / f"out{next(fresh)}")]
    subprocess.run(whole, check=True, capture_output=True, text=True)
