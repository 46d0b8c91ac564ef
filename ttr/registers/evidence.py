"""What detection learns from a pass: where the outliers are, and how strongly each neuron fires there.

What needs every token (the sparsity filter, the activity away from outliers) is reduced while the activations
pass by; where the outliers are is known only at the end of the pass, so the activations of those few tokens
are computed again from the MLP's input. The sums are float64 and do not grow with the number of images. They
are held in two halves of the images, so that what one half shows can be looked for in the other. An image
that is another one's double shows nothing new, and two halves that hold one each would agree on chance: it is
known by its pixels, on a thumbnail, and counts once. Not by its neurons: in different images the same fire.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ttr.backbones.base import Backbone
from ttr.forward.record import Record, activations_of
from ttr.norms import Threshold, outlier_threshold
from ttr.tokens import TokenLayout

SPARSE_BELOW = 0.5
SPARSE_SHARE = 0.5
EXTREME = 25.0
SELECTIVE = 5.0
EMERGED = 0.5
#: What the data-driven cut needs: images with outliers, and how far the neurons of two halves of them agree.
FEWEST, STABLE = 2, 0.5
#: Doubles: sides of the thumbnail, by how many of its SD two may differ at most (and by how much, where both
#: are flat), and how many are remembered: with as many different images a double decides nothing.
THUMBNAIL, ALIKE, FLAT, REMEMBERED = 8, 0.1, 1e-3, 64


def find_outliers(passed: Record, layer: int, threshold: Threshold, include_cls: bool = False) -> Tensor:
    """Return which tokens are outliers at the output of block ``layer``, bool [B, N].

    The threshold is taken over the patches; registers never count, CLS only if asked.
    """
    norms = passed.norms[layer]
    limit = outlier_threshold(passed.layout.select(norms, "patches"), threshold)
    eligible = torch.zeros_like(norms, dtype=torch.bool)
    eligible[:, passed.layout.where("patches")] = True
    if include_cls:
        eligible[:, passed.layout.where("cls")] = True
    return eligible & (norms > limit[:, None])


class Activity:
    """What is kept of a batch's activations [B, N, hidden] as they pass: two numbers a neuron and image.

    ``sparse[l]``: bool [B, hidden], the sparsity filter. ``patch_sums[l]``: float32 [B, hidden], the sum of
    |activation| over the patches.
    """

    def __init__(self, layout: TokenLayout, sparsity: bool) -> None:
        self.layout = layout
        self.sparsity = sparsity
        self.sparse: list[Tensor] = []
        self.patch_sums: list[Tensor] = []

    def __call__(self, layer: int, activations: Tensor) -> None:
        """Take the activations of one block, [B, N, hidden], as they pass."""
        patches = self.layout.select(activations, "patches")
        self.patch_sums.append(torch.stack([p.abs().sum(dim=0, dtype=torch.float32) for p in patches]))
        self.sparse.append(
            torch.stack([_is_sparse(item) for item in activations])
            if self.sparsity
            else torch.ones_like(self.patch_sums[-1], dtype=torch.bool)
        )


def _is_sparse(activations: Tensor) -> Tensor:
    """Return which neurons are below 0.5 on at least half of the tokens, [N, hidden] -> bool [hidden]."""
    quiet = torch.lt(activations, SPARSE_BELOW, out=torch.empty_like(activations))
    return quiet.sum(dim=0, dtype=torch.float32) >= SPARSE_SHARE * activations.shape[0]


def thumbnail(image: Tensor) -> Tensor:
    """Return an image [3, H, W] as 8 x 8 grey values, float32, their mean taken away."""
    grey = adaptive_avg_pool2d(image.float().mean(dim=0)[None], THUMBNAIL)[0].cpu()
    return grey - grey.mean()


def _alike(one: Tensor, other: Tensor) -> bool:
    """Return whether two thumbnails show the same picture, brighter or noisier at most."""
    spread = max(float(one.std()), float(other.std()))
    return float((one - other).abs().max()) <= ALIKE * spread + FLAT


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
        shape = (backbone.num_layers, backbone.num_neurons)
        scores, at_outliers, elsewhere = torch.zeros(3, *shape, dtype=torch.float64)
        return cls(scores, at_outliers, elsewhere, torch.zeros(shape[0], dtype=torch.float64))

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


class Evidence:
    """What the images of one detection show.

    Attributes:
        images: images seen.
        doubles: those with outliers that are nearly the same picture as one before, and add nothing.
        halves: the sums of every other one of the rest with outliers, and of those between.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.images = self.doubles = 0
        self._thumbnails: list[Tensor] = []
        self.halves = (Sums.empty(backbone), Sums.empty(backbone))

    @property
    def with_outliers(self) -> int:
        """How many different images have an outlier."""
        return sum(half.images for half in self.halves)

    def whole(self) -> Sums:
        """Return the sums over all different images with outliers."""
        return self.halves[0] + self.halves[1]

    def add(
        self, backbone: Backbone, images: Tensor, passed: Record, activity: Activity, outliers: Tensor
    ) -> None:
        """Add a batch of images [B, 3, H, W], with its outlier tokens, bool [B, N]."""
        self.images += outliers.shape[0]
        outliers = outliers & self._new(images, outliers.any(dim=1))[:, None]
        counts = outliers.sum(dim=1)
        items = counts.nonzero()[:, 0].tolist()
        if not items:
            return
        first = self.with_outliers
        halves = [self.halves[(first + number) % 2] for number in range(len(items))]
        sizes = counts[items].tolist()
        is_patch = torch.zeros_like(outliers)
        is_patch[:, passed.layout.where("patches")] = True
        on_patch = is_patch[outliers].split(sizes)
        for half, norms in zip(halves, passed.norms[:, outliers].split(sizes, dim=1), strict=True):
            half.images += 1
            half.outlier_norms += norms.mean(dim=1).to(half.outlier_norms)
        for layer, inputs in enumerate(passed.mlp_inputs):
            active = activations_of(backbone, layer, inputs[outliers]).float().abs().split(sizes)
            for half, item, found, patches in zip(halves, items, active, on_patch, strict=True):
                score = found.mean(dim=0)
                others = passed.layout.patches - int(patches.sum())
                elsewhere = activity.patch_sums[layer][item] - found[patches].sum(dim=0)
                half.at_outliers[layer] += score.to(half.scores)
                half.elsewhere[layer] += elsewhere.clamp(min=0).to(half.scores) / max(others, 1)
                half.scores[layer] += (score * activity.sparse[layer][item]).to(half.scores)

    def _new(self, images: Tensor, having: Tensor) -> Tensor:
        """Return which images that have outliers are no double of one before, bool [B]."""
        new = having.clone()
        for item in having.nonzero()[:, 0].tolist():
            small = thumbnail(images[item])
            if any(_alike(small, other) for other in self._thumbnails):
                new[item] = False
                self.doubles += 1
            elif len(self._thumbnails) < REMEMBERED:
                self._thumbnails.append(small)
        return new

    def emergence(self, at: int) -> int:
        """Return the first block at whose output the outliers have half of their norm at block ``at``."""
        norms = self.whole().outlier_norms
        reached = norms[: at + 1] >= EMERGED * norms[at]
        return int(reached.nonzero()[0]) if self.with_outliers else at

    def ranking(self) -> tuple[tuple[int, int, float], ...]:
        """Return all neurons, best first; equal scores in order of block and neuron."""
        scores = self.whole().scores
        values, order = (scores / max(self.with_outliers, 1)).flatten().sort(descending=True, stable=True)
        width = scores.shape[1]
        layers, neurons = order // width, order % width
        return tuple(zip(layers.tolist(), neurons.tolist(), values.tolist(), strict=True))

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
