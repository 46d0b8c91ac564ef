"""Peak memory of a pass: what torch allocated on a GPU, the high-water mark of a fresh process on a CPU.

On a CPU (Linux) each arm is a process of its own, whose allocator gives back whatever it frees, so that the
mark is exact.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks import models

#: Every large buffer is a mapping of its own and goes back when freed.
EXACT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
MIB = 2**20


def allocated(task: Callable[[], Any], device: str) -> float:
    """Return the MiB that a task allocates on the GPU at its peak, beyond what stands there already."""
    task()  # what a library keeps from its first call on is no part of a pass
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    task()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / MIB


def of_child(module: str, *arguments: object) -> list[float]:
    """Return the numbers that ``python -m module arguments`` prints last, run with the exact allocator."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env={**os.environ, **EXACT},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [float(number) for number in done.stdout.splitlines()[-1].split()]


def resident(key: str, dtype: str, arm: str, registers: int, batches: tuple[int, ...]) -> dict[int, float]:
    """Return by how many MiB a pass of an arm lifts a fresh process's high-water mark, by batch (Linux)."""
    if not Path("/proc/self/clear_refs").exists():
        return {}
    rises = of_child("tests.benchmarks.memory", key, dtype, arm, registers, *batches)
    return dict(zip(batches, rises, strict=True))


def high_water(task: Callable[[], Any]) -> float:
    """Return by how many MiB a task lifts this process's high-water mark (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    task()
    return (_status("VmHWM") - before) / 1024


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def _child(key: str, dtype: str, arm: str, registers: str, *batches: str) -> None:
    backbone = models.build(key, "cpu", dtype)
    task = models.forward(models.wrapped(key, backbone, arm, int(registers)))
    task(models.pictures(backbone, 1))
    rises = []
    for batch in batches:
        images = models.pictures(backbone, int(batch))
        rises.append(high_water(lambda images=images: task(images)))
    print(*rises)


if __name__ == "__main__":
    _child(*sys.argv[1:])
