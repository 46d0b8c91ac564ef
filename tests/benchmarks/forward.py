"""Ratios in one run: the wrapped forward against the bare one, and detection against a bare batched forward.

    python tests/benchmarks/forward.py [--batch 8] [--rounds 7]

Rounds are interleaved, so that a machine whose speed drifts slows both sides alike; medians are compared.
The targets, wrapped / bare at most 1.05 and detection / bare throughput at least 0.85, are printed beside
the figures. Nothing is asserted: a time is a property of the machine.

glibc hands large freed buffers back to the system, or keeps them, by the luck of the heap's layout. In one
process the wrapped side then ran 16 % slower and in the next 1 % faster, with the same code. So both sides
run with an allocator that keeps what it has (the process starts itself again with that setting).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable

import torch

import ttr


def interleaved(rounds: int, tasks: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Time each task once a round after one warm-up of each; the order turns from round to round."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()
    names = list(tasks)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            task = tasks[name]
            start = time.perf_counter()
            task()
            times[name].append(time.perf_counter() - start)
    return times


STEADY = {"MALLOC_TRIM_THRESHOLD_": "8000000000", "MALLOC_MMAP_THRESHOLD_": "4000000000"}


def main() -> None:
    if not STEADY.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **STEADY})
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="open_clip:ViT-B-16")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--batches", type=int, default=4, help="batches of a detection")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    backbone = ttr.plant(ttr.load(options.backbone))
    spread = [(layer, neuron) for layer in range(1, 6) for neuron in (7, 700, 1500, 2200)]
    neurons = ttr.RegisterNeurons.from_pairs(spread)  # 20 neurons of 5 blocks, as a published CLIP set
    images = torch.randn(options.batch, 3, *backbone.image_size, generator=torch.Generator().manual_seed(0))
    images[:, :, :40] = images.amin()  # a dark border, so that detection has outliers to score

    def bare() -> torch.Tensor:
        return backbone.embed(images)

    def wrapped() -> torch.Tensor:
        with ttr.TestTimeRegisters(backbone, neurons):
            return backbone.embed(images)

    def blank() -> torch.Tensor:
        with ttr.TestTimeRegisters(backbone, ttr.RegisterNeurons.from_pairs([])):
            return backbone.embed(images)

    many = images.repeat(options.batches, 1, 1, 1)

    def bare_batches() -> list[torch.Tensor]:
        return [backbone.embed(batch) for batch in many.split(options.batch)]

    def detect() -> ttr.RegisterNeurons:
        return ttr.detect(backbone, many, batch_size=options.batch)

    # Two separate races: what detection allocates and frees would speed up or slow down its neighbours.
    times = interleaved(options.rounds, {"bare": bare, "blank token": blank, "wrapped": wrapped})
    times |= interleaved(max(options.rounds // 2, 1), {"bare batches": bare_batches, "detection": detect})
    middle = {name: statistics.median(values) for name, values in times.items()}
    print(f"{backbone.name}, batch {options.batch}, {options.rounds} interleaved rounds, medians")
    for name, values in times.items():
        print(f"  {name:12s} {middle[name]:7.3f} s  (min {min(values):.3f}, max {max(values):.3f})")
    print(f"blank token / bare            {middle['blank token'] / middle['bare']:.3f}")
    print(f"wrapped / bare                {middle['wrapped'] / middle['bare']:.3f}   target: at most 1.05")
    throughput = middle["bare batches"] / middle["detection"]
    print(f"detection / bare throughput   {throughput:.3f}   target: at least 0.85")


if __name__ == "__main__":
    main()
