"""Detection against a bare pass over the same batches, and item by item, as the predecessors' code works."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

import ttr
from tests.benchmarks import models
from tests.benchmarks.cases.forward import described
from tests.benchmarks.limit import flops
from tests.benchmarks.raced import Against, rows
from tests.benchmarks.results import Row
from tests.benchmarks.settings import Settings
from ttr.backbones import Backbone

ITEM_BY_ITEM = "item by item"
#: Images that are enough to know the rate of that.
FEW = 16


def detection(settings: Settings) -> Iterator[Row]:
    """Yield the throughput of detection to that of bare passes, by model, type and number of images."""
    for key in settings.models:
        for dtype in settings.dtypes:
            backbone = ttr.plant(models.build(key, settings.device, dtype))
            for count in settings.images:
                yield from _one(settings, key, dtype, backbone, count)


def _one(settings: Settings, key: str, dtype: str, backbone: Backbone, count: int) -> Iterator[Row]:
    images = with_outliers(backbone, count, settings.seed)
    batch = min(64 if settings.on_gpu else 8, count)
    call = models.forward(backbone)

    def bare(number: int) -> list[Tensor]:
        return [call(part) for part in images[:number].split(batch)]

    common = {"case": "detection", "of": "throughput", "batch": batch}
    # The ranking is built on the host, which no event of the GPU sees.
    clock = settings.host_clock
    for number, what, size, target in (
        (count, "detect", batch, 0.85),
        (min(count, FEW), ITEM_BY_ITEM, 1, None),
    ):
        seen = images[:number]
        tasks = {
            "bare": partial(bare, number),
            what: partial(ttr.detect, backbone, seen, batch_size=size),
        }
        fields = {**described(key, dtype, seen), **common, "flops": flops(backbone, seen)}
        yield from rows(settings, tasks, [Against(what, "bare", target)], clock, **fields)


def with_outliers(backbone: Backbone, count: int, seed: int) -> Tensor:
    """Return noise images with a dark border, at which the planted neurons of the model make outliers."""
    starts = range(0, count, 256)
    parts = [models.pictures(backbone, min(256, count - start), seed + start) for start in starts]
    images = torch.cat(parts)
    border = max(backbone.image_size[0] // 5, 1)
    images[:, :, :border] = -3.0
    return images
