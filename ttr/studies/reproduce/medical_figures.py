"""What the medical study's figures show, as numbers: test images through one model, bare and wrapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.datasets.folder import draw_sample
from ttr.datasets.registry import Dataset, ReadAhead
from ttr.forward.batches import batches
from ttr.forward.preprocessing import pixels_of
from ttr.forward.record import Record, record
from ttr.registers.arms import PLAIN, Arm
from ttr.run import Run
from ttr.wording import counted


@dataclass(frozen=True, eq=False)
class Passed:
    """I images through one model of L blocks: float32 arrays, P patches, R registers, M images with maps.

    Attributes:
        largest_norm: largest patch norm at each block's output, [I, L].
        largest_attention: largest CLS attention to a patch, mean of the heads, [I, L], 0..1.
        patch_norms: at the last block, [I, P].
        register_norms: at the last block, trained registers first, [I, R].
        patch_attention: of CLS at the last block, [I, P].
        register_attention: the same, [I, R].
        norm_maps: at every block, [M, L, rows, columns].
        attention_maps: the same.
    """

    largest_norm: np.ndarray
    largest_attention: np.ndarray
    patch_norms: np.ndarray
    register_norms: np.ndarray
    patch_attention: np.ndarray
    register_attention: np.ndarray
    norm_maps: np.ndarray
    attention_maps: np.ndarray


@dataclass(frozen=True, eq=False)
class Figures:
    """What the figures of one cell show.

    Attributes:
        names: of the I images.
        bare: the model as it is.
        wrapped: with register neurons moved to test-time registers.
        pixels: what the model was given of the M images with maps, uint8 [M, H, W, 3].
    """

    names: tuple[str, ...]
    bare: Passed
    wrapped: Passed
    pixels: np.ndarray = field(repr=False)

    def by_block(self, place: Mapping[str, str]) -> pd.DataFrame:
        """Return the means over the images behind the curves, a row a model and block of a place."""
        return pd.DataFrame(
            {
                **place,
                "model": name,
                "block": block,
                "max_patch_norm": float(passed.largest_norm[:, block].mean()),
                "max_patch_attention": float(passed.largest_attention[:, block].mean()),
                "n": len(self.names),
            }
            for name, passed in (("bare", self.bare), ("wrapped", self.wrapped))
            for block in range(passed.largest_norm.shape[1])
        )


def look(backbone: Backbone, arm: Arm, dataset: Dataset, run: Run, images: int, maps: int) -> Figures:
    """Run a seeded sample of the test images through the bare and the wrapped model.

    Args:
        backbone: the bare backbone.
        arm: what wraps it.
        dataset: the labelled set.
        run: how; its seed draws the images.
        images: so many, or all where there are fewer.
        maps: of the first so many, the maps of every block are kept.

    Raises:
        ModelError: the model has no CLS token.
        ImageError: a bad image, unless it is to be skipped.
    """
    sample = draw_sample(dataset.select("test"), images, run.seed)
    reading = ReadAhead(dataset.opened(sample, f"{dataset.name}, {counted(len(sample), 'test image')}"), run)
    parts: dict[str, list[dict[str, np.ndarray]]] = {"bare": [], "wrapped": []}
    shown: list[np.ndarray] = []
    for batch in batches(backbone, reading, run.batch_size):
        wanted = max(0, maps - sum(map(len, shown)))
        if wanted:
            shown.append(pixels_of(backbone, batch[:wanted]))
        for name, treatment in (("bare", PLAIN), ("wrapped", arm)):
            with treatment.applied(backbone):
                parts[name].append(_of_batch(record(backbone, batch, attention=True).cpu(), wanted))
    bare, wrapped = (
        Passed(**{name: np.concatenate([part[name] for part in each]) for name in each[0]})
        for each in parts.values()
    )
    pixels = np.concatenate(shown) if shown else np.empty((0, 0, 0, 3), dtype=np.uint8)
    return Figures(tuple(reading.names), bare, wrapped, pixels)


def _of_batch(passed: Record, maps: int) -> dict[str, np.ndarray]:
    """Return the arrays of :class:`Passed`, images along the first axis."""
    layout = passed.layout
    norms, attention = passed.norms.transpose(0, 1), passed.cls_attention.mean(dim=2).transpose(0, 1)
    patch_norms, patch_attention = (layout.select(x, "patches", dim=2) for x in (norms, attention))
    registers, held = (layout.select(x[:, -1], "all_registers") for x in (norms, attention))
    found: dict[str, Tensor] = {
        "largest_norm": patch_norms.amax(dim=2),
        "largest_attention": patch_attention.amax(dim=2),
        "patch_norms": patch_norms[:, -1],
        "register_norms": registers,
        "patch_attention": patch_attention[:, -1],
        "register_attention": held,
        "norm_maps": layout.to_grid(patch_norms[:maps], dim=2),
        "attention_maps": layout.to_grid(patch_attention[:maps], dim=2),
    }
    return {name: values.to(torch.float32).numpy() for name, values in found.items()}
