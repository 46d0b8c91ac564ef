"""What the images of a detection show: how strongly each neuron fires at outliers, and elsewhere.

The sums are float64 and do not grow with the number of images. They are held in two halves of the images, so
that what one half shows can be looked for in the other. An image that is another one's double shows nothing
new, and two halves that hold one each would agree on chance: it counts once (:mod:`ttr.registers.doubles`).

Sums stay on the device until the end. Of A [K, hidden], the |activations| of a block at the K outliers of B
images, the sums of every image are one product, [B, K] x A: so the number of operations does not depend on
the number of images, and several batches are computed together.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import torch
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.backbones.transfer import send, wide
from ttr.forward.record import activations_at, refuse_overflow
from ttr.registers.doubles import Pictures
from ttr.registers.ranking import Ranking
from ttr.registers.seen import AtOutliers, Seen

EXTREME = 25.0
SELECTIVE = 5.0
EMERGED = 0.5
#: What the data-driven cut needs: images with outliers, and how far the neurons of two halves of them agree.
FEWEST, STABLE = 2, 0.5
#: Images that pass, and outliers that wait, at most before the neurons at these are computed again, together.
#: Images are counted whether they have outliers or not, so that what is computed together is said by their
#: places alone, and is the same in whatever process.
IMAGES_AT_ONCE, OUTLIERS_AT_ONCE = 32, 1024
#: The tensors of :class:`Sums`.
SUMS = ("scores", "at_outliers", "elsewhere", "outlier_norms")


@dataclass
class Sums:
    """Running sums over images with outliers; float64, [blocks, neurons] each.

    Attributes:
        scores: sum of the sparsity-filtered mean |activation| at outliers.
        at_outliers: the same without the filter.
        elsewhere: sum of the mean |activation| at the other patches.
        outlier_norms: sum of the outliers' mean norm at each block, [blocks].
        images: how many.
    """

    scores: Tensor
    at_outliers: Tensor
    elsewhere: Tensor
    outlier_norms: Tensor
    images: int = 0

    @classmethod
    def empty(cls, backbone: Backbone) -> Sums:
        """Return sums of zero for a backbone."""
        shape, device = (backbone.num_layers, backbone.num_neurons), backbone.device
        if wide(device) != torch.float64:
            device = torch.device("cpu")
        scores, at_outliers, elsewhere = torch.zeros(3, *shape, dtype=torch.float64, device=device)
        return cls(scores, at_outliers, elsewhere, scores.new_zeros(shape[0]))

    def tensors(self) -> dict[str, Tensor]:
        """Return the sums by name."""
        return {name: getattr(self, name) for name in SUMS}

    def cpu(self) -> Sums:
        """Return them on the host."""
        return Sums(**{name: x.cpu() for name, x in self.tensors().items()}, images=self.images)

    def to(self, other: Sums) -> Sums:
        """Return them where other sums are."""
        return Sums(**{name: x.to(other.scores) for name, x in self.tensors().items()}, images=self.images)

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.scores + other.scores,
            self.at_outliers + other.at_outliers,
            self.elsewhere + other.elsewhere,
            self.outlier_norms + other.outlier_norms,
            self.images + other.images,
        )

    def extreme_and_selective(self, top_layer: int) -> Tensor:
        """Return which neurons pass the data-driven cut, bool [blocks, neurons]."""
        eligible = self.scores[: top_layer + 1]
        positive = eligible[eligible > 0]
        if not positive.numel():
            return torch.zeros_like(self.scores, dtype=torch.bool)
        middle = positive.median()
        spread = 1.4826 * (positive - middle).abs().median()
        extreme = self.scores > middle + EXTREME * spread
        passes = extreme & (self.at_outliers >= SELECTIVE * self.elsewhere)
        passes[top_layer + 1 :] = False
        return passes


@dataclass(frozen=True)
class Shown:
    """What a stretch of the images showed by itself, for :meth:`Evidence.join`.

    Attributes:
        images: how many.
        sizes: [height, width] of them.
        parts: sums of the new pictures with outliers, dealt out as in :class:`Evidence`.
        thumbnails: of the images with outliers in order, float32 [K, 64].
        new: which of these were taken to be no doubles, bool [K].
    """

    images: int
    sizes: frozenset[tuple[int, int]]
    parts: tuple[Sums, ...]
    thumbnails: np.ndarray
    new: np.ndarray


class Evidence:
    """What the images of one detection show.

    Args:
        backbone: that sees them.
        pictures: what was seen before them; None: nothing.
        parts: in how many parts the sums are held, an even number.
        contrast: score by what the activity at outliers is above that elsewhere.

    Attributes:
        images: images seen.
        sizes: (height, width) of them.
        doubles: those with outliers that are nearly the same picture as one before, and add nothing.
        parts: the sums of the rest with outliers, dealt out one after the other; complete, and on the host,
            behind :meth:`settle`.
    """

    def __init__(
        self, backbone: Backbone, pictures: Pictures | None = None, *, parts: int = 2, contrast: bool = False
    ) -> None:
        self.images = self.doubles = 0
        self.sizes: set[tuple[int, int]] = set()
        self.parts = tuple(Sums.empty(backbone) for _ in range(parts))
        self._contrast = contrast
        self._backbone = backbone
        self._pictures = Pictures() if pictures is None else pictures
        self._waiting: list[AtOutliers] = []
        self._passed = 0

    @property
    def halves(self) -> tuple[Sums, Sums]:
        """The sums of every other one of the images, and of those between."""
        return reduce(add, self.parts[0::2]), reduce(add, self.parts[1::2])

    @property
    def with_outliers(self) -> int:
        """How many different images have an outlier."""
        return sum(part.images for part in self.parts)

    def whole(self) -> Sums:
        """Return the sums over all different images with outliers."""
        return self.halves[0] + self.halves[1]

    def add(self, seen: Seen) -> None:
        """Add a batch that passed.

        Raises:
            ImageError: its pixels are not finite.
            ModelError: its norms are not finite.
        """
        blocks, images = seen.passed.norms.shape[:2]
        finite, thumbs, found = np.split(seen.told(), [blocks, blocks + 64 * images])
        refuse_overflow(self._backbone, seen.images, finite > 0)
        self.images += images
        self.sizes.add((seen.images.shape[-2], seen.images.shape[-1]))
        outliers, thumbs = found.reshape(images, -1) > 0, thumbs.reshape(images, -1)
        having = np.flatnonzero(outliers.any(axis=1)).tolist()
        items = [item for item in having if self._pictures.is_new(thumbs[item])]
        self.doubles += len(having) - len(items)
        if items:
            self._waiting.append(AtOutliers.of(seen, items, outliers))
        self._passed += images
        waiting = sum(int(part.counts.sum()) for part in self._waiting)
        if self._passed >= IMAGES_AT_ONCE:
            self._passed = 0
            self._compute()
        elif waiting >= OUTLIERS_AT_ONCE:
            self._compute()

    def join(self, shown: Shown) -> bool:
        """Add what the images that follow have shown, unless other ones of them are doubles than was thought.

        Which are doubles is decided here, by all images before: where a stretch was decided by less, and
        otherwise, its sums hold what must not count. Nothing is added then, and the answer is False: its
        images are to be added themselves.
        """
        pictures = copy(self._pictures)
        if [pictures.is_new(each) for each in shown.thumbnails] != shown.new.tolist():
            return False
        self._compute()
        self._pictures, self._passed = pictures, 0
        first, dealt = self.with_outliers, len(self.parts)
        self.parts = tuple(
            part + shown.parts[(n - first) % dealt].to(part) for n, part in enumerate(self.parts)
        )
        self.images += shown.images
        self.sizes |= shown.sizes
        self.doubles += int((~shown.new).sum())
        return True

    def settle(self) -> None:
        """Compute what waits, and bring the sums to the host."""
        self._compute()
        self.parts = tuple(part.cpu() for part in self.parts)

    @torch.no_grad()
    def _compute(self) -> None:
        """Compute the neurons at the outliers that wait, and add them to the sums."""
        parts, self._waiting = self._waiting, []
        if not parts:
            return
        counts = np.concatenate([part.counts for part in parts])
        on_patches = np.concatenate([part.on_patches for part in parts])
        patches = np.repeat([part.patches for part in parts], [len(part.counts) for part in parts])
        mlp_inputs = torch.cat([part.mlp_inputs for part in parts], dim=1)
        device, precise = mlp_inputs.device, wide(mlp_inputs.device)
        segments, per_other = _segments(counts, on_patches, patches)
        sums = send(torch.from_numpy(segments), device)
        found = torch.stack(
            [sums @ x.to(precise).abs_() for x in activations_at(self._backbone, list(mlp_inputs))]
        )
        each = send(torch.from_numpy(1 / counts), device)
        at_outliers, on_patches_too = found[:, : len(counts)] * each[:, None], found[:, -len(counts) :]
        elsewhere = torch.cat([part.patch_sums for part in parts], dim=1) - on_patches_too
        elsewhere = elsewhere.clamp_(min=0) * send(torch.from_numpy(per_other), device)[:, None]
        scores = self._scored(parts, at_outliers, elsewhere)
        scores = scores * torch.cat([part.sparse for part in parts], dim=1)
        norms = torch.cat([part.norms for part in parts], dim=1).to(precise)
        norms = (norms @ sums[: len(counts)].T) * each
        first = self.with_outliers
        dealt = len(self.parts)
        for number, half in enumerate(self.parts):
            places = slice((number - first) % dealt, None, dealt)  # in turn, wherever the last batch ended
            half.images += len(counts[places])
            half.scores += scores[:, places].sum(dim=1).to(half.scores)
            half.at_outliers += at_outliers[:, places].sum(dim=1).to(half.scores)
            half.elsewhere += elsewhere[:, places].sum(dim=1).to(half.scores)
            half.outlier_norms += norms[:, places].sum(dim=1).to(half.scores)

    def _scored(self, parts: list[AtOutliers], at_outliers: Tensor, elsewhere: Tensor) -> Tensor:
        """Return what the neurons of each image are ranked by, float64 [L, B, hidden]."""
        given = [part.scores for part in parts if part.scores is not None]
        if given:
            return torch.cat(given, dim=1).to(at_outliers)
        return (at_outliers - elsewhere).clamp_(min=0) if self._contrast else at_outliers

    def emergence(self, at: int) -> int:
        """Return the first block at whose output the outliers have half of their norm at block ``at``."""
        norms = self.whole().outlier_norms
        reached = norms[: at + 1] >= EMERGED * norms[at]
        return int(reached.nonzero()[0]) if self.with_outliers else at

    def ranking(self) -> Ranking:
        """Return all neurons, best first; equal scores in order of block and neuron."""
        return Ranking.of_scores((self.whole().scores / max(self.with_outliers, 1)).numpy())

    def stability(self, top_layer: int) -> float | None:
        """Return how far two halves of the images choose the same neurons, 0..1.

        The neurons that pass the cut in both halves over those that pass in either (Jaccard's index). None:
        a half has no image with outliers, or none passes in either.
        """
        if not all(half.images for half in self.halves):
            return None
        first, second = (half.extreme_and_selective(top_layer) for half in self.halves)
        either = int((first | second).sum())
        return int((first & second).sum()) / either if either else None


def _segments(
    counts: np.ndarray, on_patches: np.ndarray, patches: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what adds up numbers at K outliers for each of B images, and 1 / its other patches.

    Args:
        counts: outliers of each image, [B]; they lie one image behind the other.
        on_patches: which of them are patches, bool [K].
        patches: of each image, [B].

    Returns:
        Float64 [B, K], 1 where an outlier is of an image; where some are no patches, [2 B, K], and then once
        more for those that are. And float64 [B].
    """
    own = np.repeat(np.arange(len(counts)), counts) == np.arange(len(counts))[:, None]
    on_own = own & on_patches
    rows = own if on_patches.all() else np.concatenate([own, on_own])
    return rows.astype(np.float64), 1 / np.maximum(patches - on_own.sum(axis=1), 1)
