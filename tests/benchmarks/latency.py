"""What each arm costs, as ratios to the bare model in one interleaved run: latency, and peak memory.

    python tests/benchmarks/latency.py [--minutes 4] [--batches 1,8,32] [--device cpu]

Full-size models with random weights and planted neurons, 224 px: CLIP ViT-B/16 (open_clip) and DINOv2
ViT-L/14 (timm). Arms: the bare model, a blank token, test-time registers (as many neurons as published), and
the attention bias. A wrap is installed before the clock starts, as in deployment.

Latency: every arm runs once a round, in turning order, and a ratio is taken within its round; the median
ratio is printed with the smallest and the largest. What is left of the minutes is shared among the batches
still to come; a batch whose single round does not fit is left out and said. On a machine that others share,
``OMP_NUM_THREADS=1`` and ``--clock cpu`` (processor seconds, which waiting does not add to) disturb least.

Memory: on a GPU the peak that torch allocated beyond the weights; on a CPU the rise of the resident set's
high-water mark, each arm in a fresh process (Linux), at ``--memory-batches``. Nothing is asserted: a time is
a property of the machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from forward import STEADY
from torch import Tensor

import ttr

MODELS = {
    "CLIP ViT-B/16": ("open_clip:ViT-B-16", 20, 5),
    "DINOv2 ViT-L/14": ("timm:vit_large_patch14_dinov2", 50, 19),
}
ARMS = ("bare", "blank token", "TTR", "attention bias")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
#: Every large buffer is a mapping of its own and goes back when freed, so that the high-water mark is exact.
EXACT = {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "262144", "OMP_NUM_THREADS": "1"}
MOST_ROUNDS = 15


def main() -> None:
    """Run the table, or (as a process that this one starts) measure one arm's memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=4.0, help="for all latencies, about")
    parser.add_argument("--batches", type=_numbers, default=[1, 8, 32])
    parser.add_argument("--memory-batches", type=_numbers, default=[1, 8, 32], help="on a CPU")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--memory-of", nargs=2, metavar=("MODEL", "ARM"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        name, arm = options.memory_of
        print(*resident_rises(name, arm, options.memory_batches))
        return
    if not STEADY.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **STEADY})
    threads = torch.get_num_threads()
    print(f"torch {torch.__version__}, {options.device}, {threads} threads, {options.clock} clock")
    print(f"load at the start {_load()}")
    spent = 0.0
    for left, name in zip(range(len(options.models), 0, -1), options.models, strict=True):
        spent += table(name, options, (60 * options.minutes - spent) / left)
    print(f"load at the end {_load()}")


def table(name: str, options: argparse.Namespace, seconds: float) -> float:
    """Print the rows of one model; return the seconds that its latencies took, about ``seconds``."""
    on_gpu = torch.device(options.device).type == "cuda"
    asked = [] if on_gpu else options.memory_batches
    rises = {arm: dict(zip(asked, _ask(name, arm, asked), strict=False)) for arm in ARMS}
    backbone = build(name, options.device, planted=True)
    wraps = {arm: wrap(backbone, name, arm) for arm in ARMS}
    start = time.perf_counter()
    print(f"\n{name}\n{'batch':>5} {'arm':15} {'seconds':>9}  {'latency / bare':24} memory / bare")
    for left, batch in zip(range(len(options.batches), 0, -1), options.batches, strict=True):
        images = pictures(backbone, batch)
        times = race(
            backbone, wraps, images, CLOCKS[options.clock], (start + seconds - time.perf_counter()) / left
        )
        for arm in ARMS:
            if on_gpu:
                rises[arm][batch] = allocated(backbone, wraps[arm], images)
            latency, memory = "left out, give more --minutes", "-"
            if times[arm]:
                ratios = [own / bare for own, bare in zip(times[arm], times["bare"], strict=True)]
                latency = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
            if batch in rises[arm]:
                rise = rises[arm][batch]
                memory = f"{rise / rises['bare'][batch]:.3f} ({rise / 2**20:.0f} MiB)"
            middle = statistics.median(times[arm] or [float("nan")])
            print(f"{batch:5} {arm:15} {middle:9.3f}  {latency:24} {memory}")
        print(f"      {len(times['bare'])} rounds", flush=True)
    return time.perf_counter() - start


def build(name: str, device: str, *, planted: bool) -> ttr.Backbone:
    """Return a full-size random model at 224 px; planting changes its values, not its cost."""
    backbone = ttr.load(MODELS[name][0], image_size=224, device=device)
    return ttr.plant(backbone) if planted else backbone


def wrap(backbone: ttr.Backbone, name: str, arm: str) -> AbstractContextManager[object]:
    """Return the wrap of an arm."""
    _, count, top_layer = MODELS[name]
    spread = [(i % top_layer + 1, 37 * i % backbone.num_neurons) for i in range(count)]
    neurons = ttr.RegisterNeurons.from_pairs(spread)
    if arm == "blank token":
        return ttr.TestTimeRegisters(backbone, ttr.RegisterNeurons.from_pairs([]))
    if arm == "TTR":
        return ttr.TestTimeRegisters(backbone, neurons)
    if arm == "attention bias":
        calibration = ttr.calibrate_bias(backbone, neurons, pictures(backbone, 1))
        return ttr.AttentionBias(backbone, neurons, calibration)
    return nullcontext()


def pictures(backbone: ttr.Backbone, batch: int) -> Tensor:
    """Return noise images on the model's device, [batch, 3, H, W]."""
    noise = torch.randn(batch, 3, *backbone.image_size, generator=torch.Generator().manual_seed(0))
    return noise.to(backbone.device)


def race(
    backbone: ttr.Backbone,
    wraps: dict[str, AbstractContextManager[object]],
    images: Tensor,
    clock: Callable[[], float],
    share: float,
) -> dict[str, list[float]]:
    """Return seconds by arm and round, interleaved, for as many rounds as fit into ``share`` seconds."""
    end = time.perf_counter() + share
    times: dict[str, list[float]] = {name: [] for name in wraps}
    for _ in range(2):  # the first is cold
        begun = time.perf_counter()
        for each in wraps.values():
            with each:
                _seconds(backbone, images[:1], clock)
    # a large batch is cheaper by the image
    a_round = 0.85 * (time.perf_counter() - begun) * images.shape[0]
    names = list(wraps)
    for turn in range(MOST_ROUNDS):
        start = time.perf_counter()
        if start + a_round > end:
            break
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            with wraps[name]:
                times[name].append(_seconds(backbone, images, clock))
        a_round = time.perf_counter() - start
    return times


def _seconds(backbone: ttr.Backbone, images: Tensor, clock: Callable[[], float]) -> float:
    synchronize = torch.cuda.synchronize if backbone.device.type == "cuda" else (lambda: None)
    synchronize()
    start = clock()
    backbone.embed(images)
    synchronize()
    return clock() - start


def allocated(backbone: ttr.Backbone, arm: AbstractContextManager[object], images: Tensor) -> int:
    """Return the bytes that a pass allocates on the GPU at its peak, beyond what stands there already."""
    with arm:
        torch.cuda.reset_peak_memory_stats(backbone.device)
        before = torch.cuda.memory_allocated(backbone.device)
        backbone.embed(images)
        return torch.cuda.max_memory_allocated(backbone.device) - before


def resident_rises(name: str, arm: str, batches: list[int]) -> list[int]:
    """Return by how many bytes a pass lifts this process's high-water mark, for each batch (Linux)."""
    backbone = build(name, "cpu", planted=False)
    rises = []
    with wrap(backbone, name, arm):
        backbone.embed(pictures(backbone, 1))
        for batch in batches:
            images = pictures(backbone, batch)
            Path("/proc/self/clear_refs").write_text("5")
            before = _status("VmRSS")
            backbone.embed(images)
            rises.append(_status("VmHWM") - before)
    return rises


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def _ask(name: str, arm: str, batches: list[int]) -> list[int]:
    if not batches or not Path("/proc/self/clear_refs").exists():
        return []
    command = [sys.executable, __file__, "--memory-of", name, arm]
    command += ["--memory-batches", ",".join(map(str, batches))]
    done = subprocess.run(command, env={**os.environ, **EXACT}, stdout=subprocess.PIPE, text=True, check=True)
    return [int(number) for number in done.stdout.split()]


def _load() -> str:
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
