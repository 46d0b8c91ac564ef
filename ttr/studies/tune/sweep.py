"""Many wraps over the same images: one bare pass of each batch, then one pass for each wrap.

The outlier threshold is taken on the bare map and holds for every wrap, so that all are measured with one
yardstick. An image leaves four numbers a run; intervals are over images (not patches, which are not
independent within an image), and a ratio of two runs is one of the same images. Memory holds one batch and
those numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.errors import ImageError
from ttr.forward.batches import batches, count
from ttr.forward.record import Record, record
from ttr.norms import outlier_threshold
from ttr.progress import progress_bar
from ttr.registers.detection import DetectionRule
from ttr.registers.wrap import TestTimeRegisters
from ttr.run import Run
from ttr.statistics.estimates import share, share_of_ratio

SHARE, NORM, ATTENTION, COSINE = range(4)
BATCH = 8


@dataclass(frozen=True)
class Measure:
    """A mean over images and its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Samples:
    """The numbers of every run and image.

    Attributes:
        values: float64 [1 + wraps, images, 4]; the bare run first. The four are the share of outlier patches
            (0..1), the largest patch norm, the CLS attention that all registers hold at the last block (0..1,
            NaN without CLS), and the cosine of the embedding with the first wrap's.
    """

    values: np.ndarray

    def mean(self, run: int, quantity: int) -> float:
        """Return the mean of a quantity over the images of a run."""
        return float(self.values[run, :, quantity].mean())

    def share(self, run: int) -> Measure:
        """Return a run's outlier share.

        Where a wrap leaves none, its upper end is that of ``remaining`` times the bare model's share.
        """
        found = share(self.values[run, :, SHARE])
        low, high = found.interval().low, found.interval().high
        rest = None if found.value else self.remaining(run)
        return Measure(found.value, low, self.mean(0, SHARE) * rest.high if rest else high)

    def cosine(self, run: int) -> Measure:
        """Return the cosine with the first wrap; of that wrap itself it is 1 by definition."""
        mean = self.mean(run, COSINE)
        if run == 1:
            return Measure(mean, mean, mean)
        ends = share((1 + self.values[run, :, COSINE]) / 2).interval()
        return Measure(mean, 2 * ends.low - 1, 2 * ends.high - 1)

    def remaining(self, run: int) -> Measure | None:
        """Return a run's outlier share over the bare one's, or None where the bare one is 0.

        It is a share of the bare model's outliers, which come in images: images are the independent pieces,
        by their number of outliers (:func:`ttr.statistics.estimates.share_of_ratio`).
        """
        bare, own = self.values[0, :, SHARE], self.values[run, :, SHARE]
        if not bare.any():
            return None
        if run == 0:
            return Measure(1.0, 1.0, 1.0)
        return Measure(float(own.sum() / bare.sum()), *share_of_ratio(own, bare))


def sweep(
    backbone: Backbone,
    wraps: Sequence[TestTimeRegisters],
    images: Tensor | Iterable[Any],
    rule: DetectionRule | None = None,
    run: Run | None = None,
) -> Samples:
    """Run the images through the bare backbone and through each wrap, and keep their numbers.

    Args:
        backbone: the bare backbone.
        wraps: wraps of it, none installed.
        images: a tensor [N, 3, H, W], or an iterable of PIL images or tensors [3, H, W].
        rule: what an outlier is, and at which block's output; None: the default of detection.
        run: how; None: in batches of 8. Its progress bar counts images times passes.

    Raises:
        ImageError: there are no images.
        ModelError: there is no such block.
    """
    rule, run = (rule or DetectionRule()).of(backbone), run or Run(batch_size=BATCH)
    layer = rule.outlier_layer
    contexts: list[AbstractContextManager[Any]] = [nullcontext(), *wraps]
    found: list[np.ndarray] = []
    total = count(images)
    passes = None if total is None else total * len(contexts)
    with progress_bar("sweeping", passes, show=run.progress) as advance:
        for batch in batches(backbone, images, run.batch_size):
            runs: list[Tensor] = []
            for index, wrap in enumerate(contexts):
                with wrap:
                    passed = record(backbone, batch, attention=bool(backbone.layout.cls))
                if index == 0:
                    norms = passed.layout.select(passed.norms[layer], "patches")
                    limits = outlier_threshold(norms, rule.threshold)
                if index <= 1:
                    reference = passed.embedding
                runs.append(_numbers(passed, layer, limits, reference))
                advance(batch.shape[0])
            found.append(torch.stack(runs).numpy())
    if not found:
        raise ImageError("no images were given; needed at least one to measure on")
    values = np.concatenate(found, axis=1)
    return Samples(values)


def _numbers(passed: Record, layer: int, limits: Tensor, reference: Tensor) -> Tensor:
    """Return the four numbers of each image, float64 [B, 4]."""
    layout = passed.layout
    norms = layout.select(passed.norms[layer], "patches")
    share = (norms > limits[:, None]).cpu().double().mean(dim=1)
    attention = torch.full_like(share, torch.nan)
    if layout.cls:
        registers = slice(layout.cls, layout.prefix + layout.test_time)
        attention = passed.cls_attention[-1][:, :, registers].sum(dim=2).mean(dim=1)
    numbers = [number.cpu().double() for number in (share, norms.amax(dim=1), attention)]
    cosine = F.cosine_similarity(passed.embedding.cpu().double(), reference.cpu().double())
    return torch.stack([*numbers, cosine.clamp(max=1)], dim=1)
