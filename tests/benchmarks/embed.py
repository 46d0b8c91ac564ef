"""``ttr embed`` against a bare loop over images that are decoded already, in one process.

    python tests/benchmarks/embed.py --backbone timm:vit_small_patch16_224 --images 256 --rounds 5

Both run in turns, and what is printed are ratios: of the images a second, and of the processor seconds that
an image takes, workers included. Where the model keeps all processors busy, decoding takes from it what the
second one says; with more of them, or on a GPU, it is hidden until the workers are too few.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import ttr
from ttr.datasets.registry import open_image, phantom_images
from ttr.run import Run


def measured(work: Callable[[], object], device: str) -> tuple[float, float]:
    """Return the seconds by the clock and of the processors, ended children included."""

    def used() -> float:
        each = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(x.ru_utime + x.ru_stime for x in each)

    clock, processors = time.perf_counter(), used()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - clock, used() - processors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="timm:vit_small_patch16_224")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--side", type=int, default=256, help="of the JPEG files, in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    backbone = ttr.load(given.backbone, device=given.device, dtype=getattr(torch, given.dtype))
    run = Run(batch_size=given.batch_size, workers=given.workers)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "images")
        folder.mkdir()
        for number, drawn in enumerate(phantom_images(given.images)):
            drawn.image.resize((given.side, given.side)).save(folder / f"{number:06}.jpg", quality=90)
        decoded = [backbone.preprocess(open_image(path)) for path in sorted(folder.iterdir())]
        batches = torch.stack(decoded).split(given.batch_size)

        def bare() -> None:
            for batch in batches:
                backbone.embed(batch.to(backbone.device)).cpu()

        bare()
        clocks, processors = [], []
        for number in range(given.rounds):
            out = Path(name, f"out-{number}")
            plain = measured(bare, given.device)
            ours = measured(lambda out=out: ttr.embed_images(backbone, folder, out, run=run), given.device)
            clocks.append(plain[0] / ours[0])
            processors.append(plain[1] / ours[1])
            rates = f"bare {given.images / plain[0]:.1f} images/s, ttr embed {given.images / ours[0]:.1f}"
            ratios = f"ratio {clocks[-1]:.3f}, of processor time {processors[-1]:.3f}"
            print(f"round {number}: {rates}; {ratios}", flush=True)
    medians = [statistics.median(each) for each in (clocks, processors)]
    print(f"median ratio {medians[0]:.3f}, of processor time {medians[1]:.3f}")


if __name__ == "__main__":
    main()
