"""Small real results, made once a test file: what the page and the reports read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ttr
from ttr.backbones.loading import load
from ttr.datasets.phantom_set import phantom_set
from ttr.registers.arms import PLAIN
from ttr.run import Run
from ttr.studies.ablate.settings import AblationSettings
from ttr.studies.ablate.write import write_ablation
from ttr.studies.bench.settings import BenchmarkSettings
from ttr.studies.bench.write import write_bench
from ttr.studies.integrate.settings import IntegrationSettings
from ttr.studies.integrate.write import write_integration

COUNTS = {"train": 24, "val": 6, "test": 12}
SINGLE = [f"register-{index}:zero" for index in range(1, 5)]
CONDITIONS = ["full", "registers:zero", "registers:mean", *SINGLE, "cls:zero", "patches-4:zero"]


#: Enough of them for every figure.
FEW = ["full", "registers:zero", "registers:mean", "register-1:zero", "register-2:zero"]
TASKS = ("probe", "correspondence", "segmentation")


def small_ablation(
    out: Path, cache: Path, conditions: Sequence[str] = CONDITIONS, tasks: tuple[str, ...] = TASKS
) -> Path:
    """Write the ablation of phantom-reg4 at 64 px, 12 test images, every analysis; return ``out``."""
    write_ablation(
        ttr.load("phantom-reg4", image_size=64),
        PLAIN,
        phantom_set(counts=COUNTS),
        list(conditions),
        out,
        AblationSettings(tasks=tasks, calibration_images=12, analysis_images=6, layers=2),
        Run(cache=cache, batch_size=6),
    )
    return out


def small_bench(out: Path, cache: Path) -> Path:
    """Write the benchmark of phantom at 64 px: plain, token and ttr under one head; return ``out``."""
    backbone = ttr.load("phantom", image_size=64)
    write_bench(
        backbone,
        phantom_set(counts=COUNTS),
        ttr.RegisterNeurons.from_pairs(backbone.planted),
        out,
        BenchmarkSettings(("plain", "token", "ttr"), heads=("logistic",), seeds=(42,)),
        Run(cache=cache),
    )
    return out


def small_integration(out: Path, cache: Path) -> Path:
    """Write the integration of phantom-registers at 64 px over two blocks; return ``out``."""
    write_integration(
        ["phantom-registers"],
        lambda name: (load(name, image_size=64), None),
        phantom_set(counts={**COUNTS, "train": 60}),
        out,
        IntegrationSettings(blocks=(4, 5), num_registers=(0,), num_images=None),
        Run(cache=cache, batch_size=8),
    )
    return out
