"""What the ablation suite costs: its time on the phantom, its memory by number of images, and what is shared.

    python tests/benchmarks/ablation.py            # the suite (three tasks, all conditions), memory, sharing
    python tests/benchmarks/ablation.py --part sharing

Each measurement of the suite is a process of its own with an empty cache. Sharing is a ratio in one run: a
condition at one late block, started from the known input, over a whole forward pass.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

TASKS = "probe,knn,correspondence"


def run_suite(images: int | None) -> None:
    """Run the suite on the phantom in this process, with so many test images (None: as the set has)."""
    import ttr
    from ttr.datasets.phantom_set import COUNTS, phantom_set
    from ttr.registers.arms import PLAIN
    from ttr.run import Run
    from ttr.studies.ablate.settings import AblationSettings
    from ttr.studies.ablate.write import write_ablation

    counts = COUNTS if images is None else {"train": 64, "val": 16, "test": images}
    names = ["all"] if images is None else ["registers:zero", "registers:shuffle"]
    settings = AblationSettings(tasks=tuple(TASKS.split(",")), analysis_images=64)
    with tempfile.TemporaryDirectory() as folder:
        out, cache = Path(folder) / "out", Path(folder) / "cache"
        backbone, data = ttr.load("phantom-reg4"), phantom_set(counts=counts)
        write_ablation(backbone, PLAIN, data, names, out, settings, Run(cache=cache))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def measured(images: int | None) -> tuple[float, float]:
    """Return wall seconds and peak memory in MiB of a suite in a process of its own."""
    # Freed memory goes back at once, or the heap's luck decides the peak.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    start = time.perf_counter()
    command = [sys.executable, __file__, "--part", "child", "--images", str(images or 0)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return time.perf_counter() - start, float(done.stdout.split()[-1])


def sharing(rounds: int) -> None:
    """Print the ratio of a condition at one block to a whole forward pass, by block."""
    import ttr
    from ttr.registers.arms import PLAIN
    from ttr.studies.ablate.conditions import parse
    from ttr.studies.ablate.subject import Subject

    backbone = ttr.load("timm:vit_small_patch14_reg4_dinov2", image_size=224)
    subject = Subject(backbone, PLAIN)
    images = torch.randn(8, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    blocks = (0, 5, 10, 11)
    conditions = [parse(f"registers:zero@{block}", backbone, subject.layout) for block in blocks]
    ratios: dict[int, list[float]] = {block: [] for block in blocks}
    for _ in range(rounds):
        start = time.perf_counter()
        batch = subject.batch(images, "images", conditions)
        full = time.perf_counter() - start
        for block, condition in zip(blocks, conditions, strict=True):
            start = time.perf_counter()
            batch.under(condition)
            ratios[block].append((time.perf_counter() - start) / full)
    for block, found in ratios.items():
        low, middle, high = min(found), statistics.median(found), max(found)
        print(f"one block, {block:2d} of 0..11: {middle:.3f} of a full pass ({low:.3f} to {high:.3f})")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("all", "suite", "memory", "sharing", "child"), default="all")
    parser.add_argument("--images", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    if given.part == "child":
        run_suite(given.images or None)
    if given.part in ("all", "sharing"):
        sharing(given.rounds)
    if given.part in ("all", "memory"):
        small, large = (measured(images)[1] for images in (192, 768))
        print(
            f"peak memory: {small:.0f} MiB at 192 test images, {large:.0f} MiB at 768 ({large / small:.3f})"
        )
    if given.part in ("all", "suite"):
        seconds, memory = measured(None)
        print(f"the suite on phantom-reg4, {TASKS}, all conditions: {seconds:.0f} s, {memory:.0f} MiB")


if __name__ == "__main__":
    main()
