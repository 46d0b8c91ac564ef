"""What a folder of images shows of one model at one size: four numbers an image and block."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ttr.analysis.outliers import outliers_by_block
from ttr.backbones.base import Backbone
from ttr.errors import ImageError, ModelError
from ttr.forward.batches import batches, count
from ttr.forward.record import record
from ttr.hooks import edits_at
from ttr.norms import Threshold
from ttr.progress import progress_bar
from ttr.run import Run

#: Images a pass.
BATCH = 16


@dataclass(frozen=True, eq=False)
class Scanned:
    """One model at one size.

    Attributes:
        model: its name.
        size: side of its input in pixels, or ``"224x448"``.
        registers: how many trained registers it has.
        values: float64 [images, blocks, 4], as :func:`ttr.analysis.outliers.outliers_by_block` gives them.
    """

    model: str
    size: str
    registers: int
    values: np.ndarray

    @property
    def images(self) -> int:
        """How many images were measured."""
        return int(self.values.shape[0])

    @property
    def blocks(self) -> int:
        """How many blocks the model has."""
        return int(self.values.shape[1])

    @property
    def called(self) -> str:
        """The model and its size in words."""
        return f"{self.model} at {self.size} px"


def scan(
    backbone: Backbone,
    images: Tensor | Iterable[Any],
    threshold: Threshold = "auto",
    run: Run | None = None,
) -> Scanned:
    """Run the images through the bare model once and keep four numbers an image and block.

    Args:
        backbone: the bare backbone.
        images: a tensor [N, 3, H, W], or an iterable of PIL images or tensors [3, H, W].
        threshold: above which a patch is an outlier.
        run: how; None: in batches of :data:`BATCH`.

    Raises:
        ImageError: there are no images.
        ModelError: norms are not finite, or the model is wrapped.
    """
    run = run or Run(batch_size=BATCH)
    if any(edits_at(site) for site in backbone.sites.neurons):
        raise ModelError(
            f"{backbone.name} is wrapped; remove the wrap (of a copy: ttr.unwrap(model)) and scan the bare "
            "backbone"
        )
    found: list[np.ndarray] = []
    height, width = backbone.image_size
    size = str(height) if height == width else f"{height}x{width}"
    with progress_bar(f"{backbone.name} at {size} px", count(images), show=run.progress) as advance:
        for batch in batches(backbone, images, run.batch_size):
            passed = record(backbone, batch)
            norms = passed.layout.select(passed.norms, "patches", dim=2)
            found.append(outliers_by_block(norms, threshold).numpy())
            advance(batch.shape[0])
    if not found:
        raise ImageError("no images were given; needed at least one to scan")
    return Scanned(backbone.name, size, backbone.layout.registers, np.concatenate(found))
