"""What it costs to look: norms of every token, and attention of CLS, at all blocks, to the bare pass."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from tests.benchmarks import models
from tests.benchmarks.cases.forward import MOST_BY_ITEM, PREDECESSOR, described, item_by_item
from tests.benchmarks.limit import flops
from tests.benchmarks.raced import Against, rows
from tests.benchmarks.results import Row
from tests.benchmarks.settings import Settings
from ttr.forward.record import record


def norms(settings: Settings) -> Iterator[Row]:
    """Yield the throughput of passes that keep all norms to that of bare passes."""
    yield from _look(settings, "norms", 0.95)


def attention(settings: Settings) -> Iterator[Row]:
    """Yield the throughput of passes that keep norms and CLS attention of all blocks to that of bare ones."""
    yield from _look(settings, "attention", 0.90, attention=True)


def _look(settings: Settings, case: str, target: float, **asked: Any) -> Iterator[Row]:
    for key in settings.models:
        for dtype in settings.dtypes:
            backbone = models.build(key, settings.device, dtype)
            for batch in settings.batches:
                images = models.pictures(backbone, batch, settings.seed)
                look = partial(record, backbone, **asked)
                tasks = {
                    "bare": partial(models.forward(backbone), images),
                    case: partial(look, images),
                }
                comparisons = [Against(case, "bare", target)]
                if batch <= MOST_BY_ITEM:
                    tasks[PREDECESSOR] = partial(item_by_item, look, images)
                    comparisons.append(Against(PREDECESSOR, "bare"))
                common = {**described(key, dtype, images), "case": case, "of": "throughput"}
                common["flops"] = flops(backbone, images)
                yield from rows(settings, tasks, comparisons, settings.host_clock, **common)
