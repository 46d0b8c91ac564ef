"""The benchmark's speed and memory as ratios in one run; nothing is asserted, a time belongs to a machine.

    python tests/benchmarks/bench.py [--backbone open_clip:ViT-B-16] [--images 128] [--rounds 3]

- features / bare: images a second of ``ttr.features.extract.extract`` (reading, decoding, resizing, model,
cache) to
  those of the bare model on batches that are ready in memory. Target: at least 0.95. Rounds alternate. The
  images are JPEG files of 512 px; a machine with one core decodes and computes in turn, and cannot reach it.
- second arm: files that are decoded for two arms, against one. Target: equal.
- repeated bench: ``write_bench`` with a full cache, against its first run. Target: below 0.05.
- repeated command: CPU seconds (user and system, of the whole process with its imports) of ``ttr bench`` on
  the phantom set with default settings and a full cache, against its first run. Target: below 0.05.
- memory: peak growth of ``extract`` over a process that has the model loaded, for 320, 1,280 and 2,560
  images, each run in a process of its own, with the phantom or what ``--memory-backbone`` names. What is
  returned, vectors for the heads, is 1.5 kB an image and feature.

``--only memory``, ``command`` or ``throughput`` measures that alone.
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
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import ttr
from ttr.datasets.base import Dataset, Item, make_dataset
from ttr.datasets.phantom_set import CARD
from ttr.features.extract import extract
from ttr.registers.arms import arms
from ttr.run import Run
from ttr.studies.bench.write import write_bench

SPLITS = ("train", "train", "val", "test")


def write_set(folder: Path, count: int) -> Dataset:
    """Write JPEG files of smooth noise, two classes, that compress like photographs."""
    items = []
    for number in range(count):
        path = folder / f"{number:05d}.jpg"
        if not path.exists():
            coarse = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((512, 512), Image.Resampling.BICUBIC).save(path, quality=90)
        items.append(Item(path.name, "ab"[number % 2], SPLITS[number // 2 % 4], path))  # type: ignore[arg-type]
    return make_dataset("made", items, CARD)


def seconds(task: Callable[[], object]) -> float:
    """Return how long a task takes."""
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def peak() -> float:
    """Return this process's peak memory in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(options: argparse.Namespace) -> None:
    """Print the growth of the peak over one run of features; the child's part of the memory figure."""
    backbone = ttr.load(options.backbone)
    neurons = ttr.RegisterNeurons.from_pairs([(1, 7)])
    plain = arms(("plain",), backbone, neurons)
    dataset = write_set(Path(options.child), options.images)
    with tempfile.TemporaryDirectory() as cache:
        before = peak()
        extract(backbone, dataset, plain, Run(cache=Path(cache), batch_size=options.batch))
        print(peak() - before)


def report_memory(options: argparse.Namespace, folder: str) -> None:
    """Print the memory of features; from 320 images on, as many runs as ever will be are in flight."""
    for count in (320, 1280, 2560):
        command = [sys.executable, __file__, "--child", folder, "--images", str(count)]
        command += ["--backbone", options.memory_backbone, "--batch", str(options.batch)]
        grown = [
            float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            for _ in range(options.rounds)
        ]
        print(f"peak memory of features     {', '.join(f'{mb:.0f}' for mb in grown)} MB for {count} images")


def report_command(rounds: int, folder: Path) -> None:
    """Print the CPU seconds of ``ttr bench`` on the phantom set: the first run, then repeats."""
    used = []
    for number in range(1 + rounds):
        command = [sys.executable, "-m", "ttr", "bench", "--dataset", "phantom", "--backbone", "phantom"]
        command += ["--out", str(folder / f"out-{number}"), "--cache", str(folder / "command"), "--quiet"]
        before = cpu_of_children()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        used.append(cpu_of_children() - before)
    share = statistics.median(used[1:]) / used[0]
    print(f"repeated ttr bench / first  {share:.3f}   target: below 0.05 (CPU, with imports)")
    print(f"  CPU seconds: {used[0]:.1f}, then {', '.join(f'{one:.1f}' for one in used[1:])}")


def cpu_of_children() -> float:
    """Return the CPU seconds, user and system, of the processes that were started and have ended."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def report_throughput(options: argparse.Namespace, folder: Path) -> None:
    """Print the speed of features against the bare model's, how often files are decoded, and a repeat."""
    backbone = ttr.load(options.backbone)
    neurons = ttr.RegisterNeurons.from_pairs([(1, 7), (2, 70), (3, 700)])
    plain, moved = arms(("plain", "ttr"), backbone, neurons)
    print(f"{backbone.name}, {options.images} images, batch {options.batch}, {os.cpu_count()} cores")
    dataset = write_set(folder, options.images)
    ready = torch.stack([backbone.preprocess(dataset.open(item)) for item in dataset.items])
    fresh = iter(range(1000))

    def bare() -> None:
        for batch in ready.split(options.batch):
            backbone.embed(batch)

    def features(count: int = 1, data: Dataset = dataset) -> None:
        cache = folder / f"cache{next(fresh)}"
        extract(
            backbone,
            data,
            [plain, moved][:count],
            Run(cache=cache, batch_size=options.batch, workers=options.workers),
        )

    bare()
    pairs = [(seconds(bare), seconds(features)) for _ in range(options.rounds)]
    shares = [first / second for first, second in pairs]
    print(f"features / bare throughput  {statistics.median(shares):.3f}   target: at least 0.95")
    print(f"  rounds: {', '.join(f'{share:.3f}' for share in shares)}")

    opened: list[str] = []
    own = dataset.decode
    watched = replace(dataset, decode=lambda item, content: opened.append(item.name) or own(item, content))
    features(2, watched)
    print(f"decoded for two arms        {len(opened) / options.images:.3f}   target: 1 a file")

    def bench(out: str) -> None:
        kept = Run(cache=folder / "kept", batch_size=options.batch)
        write_bench(backbone, dataset, None, folder / out, run=kept)

    first, again = seconds(lambda: bench("first")), seconds(lambda: bench("again"))
    print(f"repeated bench / first run  {again / first:.3f}   target: below 0.05")
    print(f"  {first:.1f} s, then {again:.1f} s")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="open_clip:ViT-B-16")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory-backbone", default="phantom")
    parser.add_argument("--only", choices=("memory", "command", "throughput"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        memory(options)
        return
    with tempfile.TemporaryDirectory() as name:
        if options.only in (None, "memory"):
            report_memory(options, name)
        if options.only in (None, "command"):
            report_command(options.rounds, Path(name))
        if options.only in (None, "throughput"):
            report_throughput(options, Path(name))


if __name__ == "__main__":
    main()
