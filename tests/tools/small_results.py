"""Small real results: what the page and the reports read, each made once in a run of the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

import ttr
from ttr.backbones.loading import load
from ttr.datasets.phantom_set import phantom_set
from ttr.registers.arms import PLAIN
from ttr.run import Run
from ttr.studies.ablate import write
from ttr.studies.ablate.report import write_report
from ttr.studies.ablate.settings import AblationSettings
from ttr.studies.bench.settings import BenchmarkSettings
from ttr.studies.bench.write import write_bench
from ttr.studies.integrate.settings import IntegrationSettings
from ttr.studies.integrate.write import write_integration

COUNTS = {"train": 24, "val": 6, "test": 12}
SINGLE = [f"register-{index}:zero" for index in range(1, 5)]
CONDITIONS = ["full", "registers:zero", "registers:mean", *SINGLE, "cls:zero", "patches-4:zero"]


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that the first who asks has made, in whichever worker; copy it before a change."""
    base = factory.getbasetemp()
    place = (base.parent if base.name.startswith("popen-") else base) / "made-once"
    place.mkdir(exist_ok=True)
    with FileLock(place / f"{name}.lock"):
        if not (place / name / "manifest.json").is_file():
            make(place / name)
    return place / name


def leave_the_page_out(patch: pytest.MonkeyPatch) -> None:
    """Let ablations write no page: its figures take longer than all numbers of a tiny model."""
    patch.setattr(write, "write_report", lambda folders, out: out.write_text("left out"))


def small_ablation(out: Path) -> None:
    """Write the ablation of phantom-reg4 at 64 px, 12 test images, every task and analysis, and its page.

    The page is written here, once: whoever asks first may leave it out of its own ablations.
    """
    with pytest.MonkeyPatch.context() as patch:
        leave_the_page_out(patch)
        _write_small_ablation(out)
    write_report([out], out / "index.html")


def _write_small_ablation(out: Path) -> None:
    write.write_ablation(
        ttr.load("phantom-reg4", image_size=64),
        PLAIN,
        phantom_set(counts=COUNTS),
        CONDITIONS,
        out,
        AblationSettings(
            tasks=("probe", "correspondence", "segmentation"),
            calibration_images=12,
            analysis_images=6,
            layers=2,
        ),
        Run(cache=out.with_name("ablation-cache"), batch_size=6),
    )


def small_bench(out: Path) -> None:
    """Write the benchmark of phantom at 64 px: plain, token and ttr under one head."""
    backbone = ttr.load("phantom", image_size=64)
    write_bench(
        backbone,
        phantom_set(counts=COUNTS),
        ttr.RegisterNeurons.from_pairs(backbone.planted),
        out,
        BenchmarkSettings(("plain", "token", "ttr"), heads=("logistic",), seeds=(42,)),
        Run(cache=out.with_name("bench-cache")),
    )


def small_integration(out: Path) -> None:
    """Write the integration of phantom-registers at 64 px over two blocks."""
    write_integration(
        ["phantom-registers"],
        lambda name: (load(name, image_size=64), None),
        phantom_set(counts={**COUNTS, "train": 60}),
        out,
        IntegrationSettings(blocks=(4, 5), num_registers=(0,), num_images=None),
        Run(cache=out.with_name("integration-cache"), batch_size=8),
    )
