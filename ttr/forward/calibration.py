"""What tokens are like at each block, over a set of images: the mean, the variance, and a bank of examples.

One streaming pass. With n images seen, mean m and sum of squared deviations s, a batch of b images (mean m_b,
sum s_b) is added by the exact update of Chan, Golub and LeVeque (1983) in float64,

    m' = m + (m_b - m) b / (n + b),      s' = s + s_b + (m_b - m)^2 n b / (n + b),

which neither cancels nor grows. Every token of the prefix and every test-time register has statistics of its
own; the patches share one, over images and positions. The bank keeps the tokens of a seeded random sample of
the images (reservoir sampling), and of each one patch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ttr import checks
from ttr.backbones.base import Backbone
from ttr.digests import sha256
from ttr.errors import ImageError, ModelError
from ttr.files import load_tensors, save_tensors
from ttr.forward.batches import batches, count
from ttr.hooks import evaluation_mode, keep
from ttr.progress import progress_bar

SCHEMA = "ttr.calibration/2"
BANK = 64


@dataclass(frozen=True, eq=False)
class Calibration:
    """Statistics of tokens by block and slot. Make one with :func:`calibrate` or :meth:`load`.

    A slot is a token of the prefix or a test-time register; the last slot stands for all patches.

    Attributes:
        mean: float32 [L, S, D].
        variance: float32 [L, S, D], over images (and positions, for the patches), divisor n.
        bank: float32 [M, L, S, D], tokens of M calibration images.
        images: how many were seen.
        banked: which of them the bank holds, M places in the order they were seen in; empty: not known.

    Raises:
        ModelError: other shapes, or values that are no finite floats.
        OptionError: places that are none.
    """

    mean: Tensor
    variance: Tensor
    bank: Tensor
    images: int
    banked: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        parts = {"mean": self.mean, "variance": self.variance, "bank": self.bank}
        checks.floats("this calibration", parts)
        shapes = [tuple(part.shape) for part in parts.values()]
        if len(shapes[0]) != 3 or shapes[1] != shapes[0] or shapes[2][1:] != shapes[0]:
            raise ModelError(
                f"got mean, variance and bank of shapes {shapes}; needed [L, S, D] twice, [M, L, S, D]"
            )
        checks.finite("this calibration", parts)
        checks.integer("images", self.images, 1)
        if self.banked:
            checks.integers("banked", self.banked, 0)
            if len(self.banked) != len(self.bank) or max(self.banked) >= self.images:
                raise ModelError(
                    f"got {len(self.banked)} places for a bank of {len(self.bank)} of {self.images} images; "
                    "needed one an image of the bank, below their number"
                )

    def slots(self, where: Tensor) -> Tensor:
        """Return the slots of token positions, int64 of the same shape."""
        return where.clamp(max=self.mean.shape[1] - 1)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the tensors, the first 16 hex digits."""
        arrays = (tensor.numpy() for tensor in (self.mean, self.variance, self.bank))
        return sha256((part for x in arrays for part in (str(x.shape), x.tobytes())), 16)

    def save(self, path: str | Path) -> None:
        """Write safetensors, whole or not at all."""
        tensors = {"mean": self.mean, "variance": self.variance, "bank": self.bank}
        save_tensors(Path(path), tensors, "calibration", self._header())

    def _header(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "images": self.images, "banked": list(self.banked)}

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read what :meth:`save` wrote.

        Raises:
            ModelError: no such file, or it holds something else.
        """
        try:
            tensors, header = load_tensors(Path(path), "calibration", SCHEMA)
            parts = (tensors["mean"], tensors["variance"], tensors["bank"])
            return cls(*parts, header["images"], tuple(header["banked"]))
        except (ValueError, TypeError, KeyError, ModelError) as error:
            raise ModelError(
                f"{path} is no calibration of schema {SCHEMA} ({error}); calibrate again"
            ) from error


class _Moments:
    """Running mean and sum of squared deviations, float64; see the module."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0

    def add(self, values: Tensor) -> None:
        """Add observations along the first axis."""
        values = values.double()
        new = values.shape[0]
        mean = values.mean(dim=0)
        step = mean - self.mean
        total = self.count + new
        self.squares = self.squares + ((values - mean) ** 2).sum(dim=0) + step**2 * (self.count * new / total)
        self.mean = self.mean + step * (new / total)
        self.count = total


@torch.no_grad()
def calibrate(
    backbone: Backbone,
    images: Tensor | Iterable[Any],
    *,
    bank: int = BANK,
    seed: int = 42,
    batch_size: int = 16,
    progress: bool = False,
) -> Calibration:
    """Measure every block's output tokens over images; an installed wrap takes part.

    Args:
        backbone: bare or wrapped.
        images: a tensor [N, 3, H, W], or an iterable of PIL images or tensors; published: 5,000.
        bank: how many images the bank keeps.
        seed: of the bank's sample.
        batch_size: images a pass; the result does not depend on it but in rounding.
        progress: show a progress bar.

    Raises:
        ImageError: there are no images.
    """
    checks.integer("bank", bank, 1)
    random = np.random.default_rng(seed)
    alone: list[_Moments] = [_Moments() for _ in range(backbone.num_layers)]
    patches: list[_Moments] = [_Moments() for _ in range(backbone.num_layers)]
    kept: dict[int, Tensor] = {}
    banked: dict[int, int] = {}
    total = 0
    with (
        progress_bar("calibrating", count(images), show=progress) as advance,
        evaluation_mode(backbone.model),
        keep(backbone.sites.blocks, lambda x: x.float().cpu()) as seen,
    ):
        for batch in batches(backbone, images, batch_size):
            seen.clear()
            backbone.features(backbone.prepare(batch))
            layout = backbone.layout_of(batch, seen[0].shape[1])
            ahead = layout.length - layout.patches
            for layer, x in enumerate(seen):
                alone[layer].add(x[:, :ahead])
                patches[layer].add(layout.select(x, "patches").flatten(0, 1))
            for item in range(batch.shape[0]):
                place = total if total < bank else int(random.integers(total + 1))
                patch = ahead + int(random.integers(layout.patches))
                if place < bank:
                    slots = [*range(ahead), patch]
                    kept[place] = torch.stack([x[item, slots] for x in seen])
                    banked[place] = total
                total += 1
            advance(batch.shape[0])
    if not total:
        raise ImageError("no images were given; needed at least one to calibrate on")

    def joined(first: Any, second: Any) -> Tensor:
        return torch.cat([first, second[None]]).float()

    return Calibration(
        mean=torch.stack([joined(a.mean, p.mean) for a, p in zip(alone, patches, strict=True)]),
        variance=torch.stack(
            [joined(a.squares / a.count, p.squares / p.count) for a, p in zip(alone, patches, strict=True)]
        ),
        bank=torch.stack([kept[place] for place in sorted(kept)]),
        images=total,
        banked=tuple(banked[place] for place in sorted(banked)),
    )
