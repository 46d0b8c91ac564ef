"""What tokens are like at each block, over a set of images: the mean, the variance, and a bank of examples.

One streaming pass. With n images seen, mean m and sum of squared deviations s, a batch of b images (mean m_b,
sum s_b) is added by the exact update of Chan, Golub and LeVeque (1983) in float64,

    m' = m + (m_b - m) b / (n + b),      s' = s + s_b + (m_b - m)^2 n b / (n + b),

which neither cancels nor grows. Every token of the prefix and every test-time register has statistics of its
own; the patches share one, over images and positions. The bank keeps the tokens of a seeded random sample of
the images (reservoir sampling), and of each one patch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
from ttr.progress import Advance, progress_bar
from ttr.tokens import TokenLayout
from ttr.wording import counted

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
                    f"got {len(self.banked)} places for a bank of {len(self.bank)} of "
                    f"{counted(self.images, 'image')}; needed one an image of the bank, below their number"
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


@dataclass
class Moments:
    """Running mean and sum of squared deviations, float64; see the module."""

    count: int = 0
    mean: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def add(self, values: Tensor) -> None:
        """Add observations along the first axis."""
        values = values.double()
        mean = values.mean(dim=0)
        self.join(Moments(values.shape[0], mean, ((values - mean) ** 2).sum(dim=0)))

    def join(self, other: Moments) -> None:
        """Add other observations by their moments."""
        total = self.count + other.count
        if not other.count:
            return
        step = other.mean - self.mean
        self.squares = self.squares + other.squares + step**2 * (self.count * other.count / total)
        self.mean = self.mean + step * (other.count / total)
        self.count = total


class Sample:
    """The bank's sample as it is drawn, image by image (reservoir sampling)."""

    def __init__(self, bank: int, seed: int) -> None:
        self.bank, self.drawn = bank, 0
        self._random = np.random.default_rng(seed)

    def draw(self, patches: int) -> tuple[int, int]:
        """Return the next image's place, in the bank if it is below its size, and one of its patches."""
        place = self.drawn if self.drawn < self.bank else int(self._random.integers(self.drawn + 1))
        self.drawn += 1
        return place, int(self._random.integers(patches))


class TokenMoments:
    """What a stretch of calibration images shows, for one that begins it all and those that join it.

    Args:
        layers: blocks.
        bank: how many images the bank keeps.
        seed: of the bank's sample.
        before: images before this stretch, of as many patches.

    Attributes:
        alone: of each block's tokens ahead of the patches.
        patches: of each block's patches.
        kept: {place in the bank: tokens [L, S, D]}.
        banked: {place in the bank: which image that is, counted from the first of all}.
        images: how many.
        sizes: numbers of patches that they had.
    """

    def __init__(self, layers: int, bank: int, seed: int, before: int = 0) -> None:
        self.alone = [Moments() for _ in range(layers)]
        self.patches = [Moments() for _ in range(layers)]
        self.kept: dict[int, Tensor] = {}
        self.banked: dict[int, int] = {}
        self.images = 0
        self.sizes: set[int] = set()
        self.before = before
        self._sample = Sample(bank, seed)

    def add(self, seen: Sequence[Tensor], layout: TokenLayout) -> None:
        """Add the output tokens of a batch at each block, [B, N, D]."""
        patches = layout.patches
        ahead = layout.length - patches
        for layer, x in enumerate(seen):
            self.alone[layer].add(layout.select(x, "ahead"))
            self.patches[layer].add(layout.select(x, "patches").flatten(0, 1))
        while self._sample.drawn < self.before:
            self._sample.draw(patches)
        for item in range(seen[0].shape[0]):
            place, patch = self._sample.draw(patches)
            if place < self._sample.bank:
                self.kept[place] = torch.stack([x[item, [*range(ahead), ahead + patch]] for x in seen])
                self.banked[place] = self._sample.drawn - 1
        self.images += seen[0].shape[0]
        self.sizes.add(patches)

    def join(self, other: TokenMoments) -> bool:
        """Add the stretch that follows, unless other images came before it than it was told.

        Its bank would not be that of one process then: nothing is added, and the answer is False.
        """
        told = other.before == self.before + self.images and len(self.sizes | other.sizes) <= 1
        if other.images and not told:
            return False
        for mine, others in ((self.alone, other.alone), (self.patches, other.patches)):
            for moments, more in zip(mine, others, strict=True):
                moments.join(more)
        for patches in other.sizes:
            while self._sample.drawn < self.before + self.images + other.images:
                self._sample.draw(patches)
        self.kept |= other.kept
        self.banked |= other.banked
        self.images += other.images
        self.sizes |= other.sizes
        return True

    def calibration(self) -> Calibration:
        """Return the statistics.

        Raises:
            ImageError: there were no images.
        """
        if not self.images:
            raise ImageError("no images were given; needed at least one to calibrate on")
        pairs = list(zip(self.alone, self.patches, strict=True))
        return Calibration(
            mean=torch.stack([_joined(a.mean, p.mean) for a, p in pairs]),
            variance=torch.stack([_joined(a.squares / a.count, p.squares / p.count) for a, p in pairs]),
            bank=torch.stack([self.kept[place] for place in sorted(self.kept)]),
            images=self.images,
            banked=tuple(self.banked[place] for place in sorted(self.kept)),
        )


def _joined(first: Any, second: Any) -> Tensor:
    return torch.cat([first, second[None]]).float()


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
    moments = TokenMoments(backbone.num_layers, bank, seed)
    with progress_bar("calibrating", count(images), show=progress) as advance:
        measure(backbone, images, moments, batch_size, advance)
    return moments.calibration()


@torch.no_grad()
def measure(
    backbone: Backbone,
    images: Tensor | Iterable[Any],
    moments: TokenMoments,
    batch_size: int,
    advance: Advance,
) -> None:
    """Add the tokens of images to some moments."""
    with (
        evaluation_mode(backbone.model),
        keep(backbone.sites.blocks, lambda x: x.float().cpu()) as seen,
    ):
        for batch in batches(backbone, images, batch_size):
            seen.clear()
            backbone.features(backbone.prepare(batch))
            moments.add(seen, backbone.layout_of(batch, seen[0].shape[1]))
            advance(batch.shape[0])
