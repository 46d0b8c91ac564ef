"""The rates that ``docs/scale.md`` is made of: images a second by model and size, files decoded a second."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import ttr
from tests.benchmarks import models
from tests.benchmarks.cases.forward import described
from tests.benchmarks.limit import flops
from tests.benchmarks.made_files import SIDE, made_set
from tests.benchmarks.raced import Against, rows
from tests.benchmarks.results import Row, Tabled
from tests.benchmarks.settings import Settings
from ttr.backbones import Backbone

KEYS = ("timm-b", "timm-l")
PIXELS = (224, 518)
#: One, as most use it; four, as timm measured trained ones at 518 px.
REGISTERS = (1, 4)


def scale(settings: Settings) -> Iterator[Row]:
    """Yield a wrapped pass to a bare one for ViT-B and ViT-L at 224 and 518 px, and the rate of decoding."""
    keys = settings.models[:1] if settings.quick else KEYS
    for key in keys:
        for pixels in (None,) if settings.quick else PIXELS:
            for dtype in settings.dtypes:
                yield from _passes(settings, key, pixels, dtype)
    yield _decoding(settings, ttr.load(settings.backbone))


def _passes(settings: Settings, key: str, pixels: int | None, dtype: str) -> Iterator[Row]:
    bare = models.build(key, settings.device, dtype, pixels)
    batch = 64 if settings.on_gpu else 1
    images = models.pictures(bare, batch, settings.seed)
    tasks = {"bare": partial(models.forward(bare), images)}
    for count in REGISTERS:
        tasks[f"ttr R={count}"] = partial(models.forward(models.wrapped(key, bare, "ttr", count)), images)
    asked = [Against(f"ttr R={count}", "bare", registers=count) for count in REGISTERS]
    # What is asked here is a rate as well, which few rounds give; a ViT-L at 518 px takes seconds.
    few = replace(settings, budget=replace(settings.budget, seconds=3 * settings.budget.seconds, fewest=4))
    common = {**described(key, dtype, images), "case": "scale"}
    yield from rows(few, tasks, asked, flops=flops(bare, images), **common)


def _decoding(settings: Settings, backbone: Backbone) -> Tabled:
    """Return how many files one thread reads, decodes and preprocesses in a second."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = made_set(Path(folder), settings.images[0])

        def read() -> None:
            for item in dataset.items:
                backbone.preprocess(dataset.open(item))

        seconds = min(settings.host_clock(read, 1) for _ in range(3))
    title = f"JPEG files of {SIDE} px that one thread reads, decodes and preprocesses in a second"
    rate = len(dataset.items) / seconds
    return Tabled(case="scale", title=title, columns=("images a second",), rows=((rate,),))
