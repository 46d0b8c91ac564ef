"""Object discovery without labels: LOST (Siméoni et al. 2021, arXiv 2109.14279), and how often it is right.

Objects cover fewer patches than the background, so a patch of an object is like few others. With f_p the key
of patch p in the last block's attention,

    degree      d_p = number of other patches q with f_p . f_q > 0
    seed        p* = the patch of least degree
    expansion   S = those of the k = 100 patches of least degree with f_p . f_p* > 0, the seed among them
    mask        m_q = 1 where sum over s in S of f_q . f_s > 0
    box         around the connected component of the mask that holds the seed, sides shared, not corners

The degrees lean on where zero is, and attention does not say: softmax is the same when one vector is taken
from all keys. Where these share a direction, as in DINOv2, every pair correlates positively and the box is
the whole image. ``centred`` takes their mean over the image's patches away first; it is no part of LOST.

Of equal degrees the first patch in reading order comes first. CorLoc is the share of images whose one box
overlaps a true one by an IoU of .5 or more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.checks import integer
from ttr.datasets.registry import Box
from ttr.errors import OptionError
from ttr.evaluate.keypoints import points_as_seen
from ttr.forward.batches import batches
from ttr.forward.keys import patch_keys
from ttr.registers.arms import Arm
from ttr.wording import counted

#: Patches of least degree that the seed may grow to, and the IoU from which an object counts as found.
PATCHES, FOUND = 100, 0.5


@dataclass(frozen=True, eq=False)
class Discovered:
    """What was found in each image of a batch.

    Attributes:
        seeds: place of the seed among the patches, int64 [B].
        masks: the component that holds the seed, bool [B, rows, columns].
        boxes: around it, in patches: first column, first row, and those behind the last, int64 [B, 4].
        positive: share of the pairs of patches that correlate positively, [B]; at 1 nothing was told apart.
    """

    seeds: np.ndarray
    masks: np.ndarray
    boxes: np.ndarray
    positive: np.ndarray


def lost(keys: Tensor, grid: tuple[int, int], patches: int = PATCHES, *, centred: bool = False) -> Discovered:
    """Find one object in each image.

    Args:
        keys: of the patches alone, [B, P, D], row by row of the grid (:func:`ttr.forward.keys.patch_keys`).
        grid: (rows, columns).
        patches: k >= 1; more than P is all.
        centred: take the mean over an image's patches from its keys first.

    Raises:
        OptionError: shapes that do not match, or a k below 1.
    """
    integer("patches", patches, 1)
    if keys.ndim != 3 or keys.shape[1] != grid[0] * grid[1]:
        raise OptionError(
            f"got keys {tuple(keys.shape)}; needed [B, {grid[0] * grid[1]}, D], for a grid of "
            f"{grid[0]}x{grid[1]}: those of the patches alone"
        )
    wide = keys.detach().cpu().double()
    if centred:
        wide = wide - wide.mean(dim=1, keepdim=True)
    found = [_one(each.numpy(), grid, patches) for each in wide]
    seeds, masks, boxes, positive = zip(*found, strict=True) if found else ((), (), (), ())
    return Discovered(
        np.array(seeds, dtype=np.int64),
        np.array(masks, dtype=bool).reshape(-1, *grid),
        np.array(boxes, dtype=np.int64).reshape(-1, 4),
        np.array(positive, dtype=np.float64),
    )


def _one(
    keys: np.ndarray, grid: tuple[int, int], patches: int
) -> tuple[int, np.ndarray, tuple[int, ...], float]:
    """Return seed, mask, box and share of positive pairs of one image, keys float64 [P, D]."""
    from scipy.ndimage import label

    alike = keys @ keys.T
    degrees = (alike > 0).sum(axis=1) - (np.diag(alike) > 0)
    order = np.argsort(degrees, kind="stable")
    seed = int(order[0])
    lowest = order[:patches]
    expanded = lowest[alike[seed, lowest] > 0]
    mask = (alike[expanded].sum(axis=0) > 0).reshape(grid)
    mask.flat[seed] = True  # a key of length zero is like nothing, itself included
    components, _ = label(mask)
    component = components == components.flat[seed]
    rows, columns = np.nonzero(component)
    box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return seed, component, box, degrees.sum() / max(len(keys) * (len(keys) - 1), 1)


def overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU of a box with others, [4] and [K, 4] (left, top, right, bottom) -> [K], 0..1."""
    shared = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    inside = shared.clip(min=0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    return inside / ((box[2:] - box[:2]).prod() + areas - inside)


def hits(found: Discovered, truth: Sequence[np.ndarray], patch_size: tuple[int, int]) -> list[bool]:
    """Return in which images the box overlaps a true one by :data:`FOUND` or more.

    Args:
        found: of the images.
        truth: of each its boxes in pixels of the model's input, float [K, 4] with K >= 1.
        patch_size: (height, width) in pixels.
    """
    pixels = np.tile(patch_size[::-1], 2)
    return [
        bool(overlaps(box, np.asarray(of)).max() >= FOUND)
        for box, of in zip(found.boxes * pixels, truth, strict=True)
    ]


def boxes_of(mask: np.ndarray) -> np.ndarray:
    """Return the boxes around the parts of a mask, float [K, 4] (left, top, right, bottom).

    Parts that touch by a corner alone are two.
    """
    from scipy.ndimage import find_objects, label

    sides = [
        (columns.start, rows.start, columns.stop, rows.stop) for rows, columns in find_objects(label(mask)[0])
    ]
    return np.array(sides, dtype=np.float64).reshape(-1, 4)


def boxes_as_seen(backbone: Backbone, image_size: tuple[int, int], boxes: Iterable[Box]) -> np.ndarray:
    """Return boxes of an image through the same resize and crop as it, cut at the model's input, [K, 4].

    What the crop cuts away entirely is left out. Left, top, right, bottom in pixels of the model's input;
    ``image_size`` is (height, width).

    Raises:
        ModelError: the preprocessing is unknown, or no resize and crop.
    """
    sides = [((box.left, box.top), (box.right, box.bottom)) for box in boxes]
    # A box is said by the edges of pixels, a point by their centres.
    corners = np.array(sides, dtype=np.float64).reshape(-1, 2, 2) - 0.5
    seen = points_as_seen(backbone, image_size, corners) + 0.5
    height, width = backbone.image_size
    cut = np.sort(seen, axis=1).reshape(-1, 4).clip(0, [width, height, width, height])
    return cut[(cut[:, 2:] > cut[:, :2]).all(axis=1)]


def objects_found(
    backbone: Backbone,
    images: Tensor | Iterable[Any],
    truth: Sequence[np.ndarray],
    arms: Sequence[Arm],
    *,
    patches: int = PATCHES,
    centred: bool = False,
    batch_size: int = 8,
) -> dict[str, np.ndarray]:
    """Return, for each arm, in which images LOST's box overlaps a true one by :data:`FOUND` or more.

    CorLoc is the mean; its interval is :func:`ttr.statistics.estimates.share`'s, that of a difference of two
    arms on the same images :func:`ttr.statistics.estimates.difference`'s.

    Args:
        backbone: the bare backbone.
        images: as :func:`ttr.forward.batches.batches` takes them, one with an object an item.
        truth: of each image its boxes in pixels of the model's input, float [K, 4] with K >= 1.
        arms: what is done to the model, from :func:`ttr.registers.arms.arms`.
        patches: k of the expansion.
        centred: as in :func:`lost`.
        batch_size: images a pass.

    Returns:
        {name of the arm: bool [N]}.

    Raises:
        OptionError: another number of images than of truths, or an image without a box.
        TTRError: as the batches and the arms do.
    """
    if lacking := [
        place for place, boxes in enumerate(truth) if np.shape(boxes)[1:] != (4,) or not len(boxes)
    ]:
        raise OptionError(f"truth {lacking[0]} holds no box; needed [K, 4] with one box or more an image")
    found: dict[str, list[bool]] = {arm.name: [] for arm in arms}
    done = 0
    for batch in batches(backbone, images, batch_size):
        theirs = truth[done : done + len(batch)]
        done += len(batch)
        if len(theirs) < len(batch):
            raise OptionError(
                f"got boxes of {counted(len(truth), 'image')} and {done} images or more; needed as many"
            )
        for arm in arms:
            with arm.applied(backbone):
                keys = patch_keys(backbone, batch)
            there = lost(keys, backbone.layout_for(batch).grid, patches, centred=centred)
            found[arm.name] += hits(there, theirs, backbone.patch_size)
    if done < len(truth):
        raise OptionError(f"got boxes of {counted(len(truth), 'image')} and {done} images; needed as many")
    return {name: np.array(each, dtype=bool) for name, each in found.items()}
