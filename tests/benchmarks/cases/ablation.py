"""What an ablation costs: one condition to a whole pass, the suite's time, and its memory by images."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import ttr
from tests.benchmarks import memory, models
from tests.benchmarks.raced import Against, rows
from tests.benchmarks.results import Row, Tabled
from tests.benchmarks.settings import Settings
from ttr.datasets.phantom_set import COUNTS, phantom_set
from ttr.registers.arms import PLAIN
from ttr.run import Run
from ttr.studies.ablate.conditions import parse
from ttr.studies.ablate.settings import AblationSettings
from ttr.studies.ablate.subject import Subject
from ttr.studies.ablate.write import write_ablation

MODULE = "tests.benchmarks.cases.ablation"
TASKS = ("probe", "knn", "correspondence")


def ablation(settings: Settings) -> Iterator[Row]:
    """Yield what a condition at one block costs to a whole pass; and the suite, unless it is to be quick."""
    yield from _sharing(settings)
    if not settings.quick:
        # Freed memory goes back at once, or the heap's luck decides the peak.
        rows = tuple((count, *memory.of_child(MODULE, count)) for count in (192, 768, 0))
        named = tuple((count or "the phantom set, all conditions", *found) for count, *found in rows)
        title = f"The suite ({', '.join(TASKS)}) on phantom-reg4, by number of test images"
        yield Tabled(case="ablation", title=title, columns=("images", "seconds", "peak MiB"), rows=named)


def _sharing(settings: Settings) -> Iterator[Row]:
    """Yield the cost of a condition at one block, started from the known input, to a whole pass."""
    name = "phantom-reg4" if settings.quick else "timm:vit_small_patch14_reg4_dinov2"
    backbone = ttr.load(name, device=settings.device, image_size=None if settings.quick else 224)
    subject = Subject(backbone, PLAIN)
    images = models.pictures(backbone, settings.batches[-1], settings.seed)
    last = backbone.num_layers - 1
    named = {
        f"block {block} of 0..{last}": parse(f"registers:zero@{block}", backbone, subject.layout)
        for block in (0, (last + 1) // 2, last)
    }
    whole = partial(subject.batch, images, "images", list(named.values()))
    known = whole()
    tasks = {"a whole pass": whole}
    tasks |= {what: partial(known.under, condition) for what, condition in named.items()}
    asked = [Against(what, "a whole pass") for what in named]
    common = {"case": "ablation", "model": name, "batch": len(images), "images": len(images)}
    yield from rows(settings, tasks, asked, settings.host_clock, **common)


def _child(images: str) -> None:
    """Run the suite in this process; print its seconds and by how many MiB it lifts the high-water mark."""
    count = int(images)
    counts = {"train": 64, "val": 16, "test": count} if count else COUNTS
    names = ["registers:zero", "registers:shuffle"] if count else ["all"]
    settings = AblationSettings(tasks=TASKS, analysis_images=64)
    backbone, data = ttr.load("phantom-reg4"), phantom_set(counts=counts)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        out, run = Path(folder) / "out", Run(cache=Path(folder) / "cache")
        peak = memory.high_water(lambda: write_ablation(backbone, PLAIN, data, names, out, settings, run))
    print(time.perf_counter() - start, peak)


if __name__ == "__main__":
    _child(*sys.argv[1:])
