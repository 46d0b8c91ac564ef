"""Which machine it was, and how busy."""

from __future__ import annotations

import os
import platform
import sys
from datetime import datetime, timezone
from pathlib import Path

import torch

import ttr
from tests.benchmarks.limit import gemm_rate
from tests.benchmarks.results import Machine
from tests.benchmarks.settings import Settings

#: glibc hands large freed buffers back to the system, or keeps them, by the luck of the heap's layout: in one
#: process the wrapped side then ran 16 % slower and in the next 1 % faster, with the same code. So both sides
#: run with an allocator that keeps what it has.
STEADY = {"MALLOC_TRIM_THRESHOLD_": "8000000000", "MALLOC_MMAP_THRESHOLD_": "4000000000"}


def start_steady() -> None:
    """Start this process again with the steady allocator, unless it has it."""
    if not STEADY.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **STEADY})


def machine(settings: Settings) -> Machine:
    """Return what is known of this machine; its rate of matrix products is measured."""
    load = load_of_the_last_minute()
    return Machine(
        date=datetime.now(timezone.utc).date().isoformat(),
        device=settings.device,
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        gpu=torch.cuda.get_device_name(settings.device) if settings.on_gpu else None,
        torch=torch.__version__,
        cuda=torch.version.cuda,
        python=platform.python_version(),
        ttr=ttr.__version__,
        clock="events" if settings.on_gpu else settings.clock,
        allocator="keeps what is freed" if STEADY.keys() <= os.environ.keys() else "default",
        seed=settings.seed,
        command=_command(sys.argv[1:]),
        gemm={dtype: round(gemm_rate(settings, dtype) / 1e9, 1) for dtype in settings.dtypes},
        load=(load, load),
    )


def _command(arguments: list[str]) -> str:
    """Return how this run is repeated, without the files that it writes: they are a machine's own."""
    kept, skipping = ["python -m tests.benchmarks"], False
    for argument in arguments:
        skipping = argument in ("--out", "--into") or (skipping and not argument.startswith("--"))
        kept += [] if skipping else [argument]
    return " ".join(kept)


def load_of_the_last_minute() -> float:
    """Return the number of processes that wanted a core."""
    return round(os.getloadavg()[0], 1)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
