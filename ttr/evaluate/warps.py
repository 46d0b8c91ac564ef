"""Keypoint pairs for any set, without a single label: an image and a warp of itself.

Where a point goes under an affine warp is known exactly, so patch correspondence can be measured on images
that nobody annotated. The warp is moderate (a turn up to 20 degrees, a scale of 0.85 to 1.2, a shift up to a
tenth of each side) and is applied to the model's input, after its preprocessing. Points lie where there is
something to recognise: at the centres of the patches with the largest standard deviation of their pixels.

One seed an image decides its warp, so that it does not depend on the batch or on the library's version;
albumentations carries it out. Coordinates are (x, y) in pixels, and a pixel's centre is at its index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ttr.checks import integer
from ttr.errors import OptionError
from ttr.forward.preprocessing import albumentations
from ttr.wording import counted

TURN = 20.0
SCALE = (0.85, 1.2)
SHIFT = 0.1


@dataclass(frozen=True, eq=False)
class WarpedPair:
    """A batch of images beside their warps.

    Attributes:
        warped: the warped images, float [B, 3, H, W], type and device of the originals.
        source: keypoints in the originals, float64 [B, K, 2], (x, y) in pixels.
        target: where they went in the warped images, float64 [B, K, 2].
        valid: bool [B, K], False where a point left the image or its patch has no texture at all.
    """

    warped: Tensor
    source: np.ndarray
    target: np.ndarray
    valid: np.ndarray


def warped_pair(
    images: Tensor,
    *,
    seeds: Sequence[int],
    fill: Tensor,
    points: int = 32,
    patch_size: tuple[int, int] = (16, 16),
) -> WarpedPair:
    """Warp each image of a batch, and tell where its most textured points went.

    Args:
        images: model inputs, float [B, 3, H, W].
        seeds: B of them; the same seed gives the same warp.
        fill: [3], what is seen where the warp looks beyond the image, in the units of ``images``.
        points: how many keypoints K an image, at most as many as it has patches.
        patch_size: (height, width) in pixels of the patches that keypoints are centres of.

    Raises:
        OptionError: not as many seeds as images, or no points.
    """
    if len(seeds) != len(images):
        raise OptionError(
            f"got {counted(len(seeds), 'seed')} for {counted(len(images), 'image')}; give one an image"
        )
    integer("points", points, 1)
    pixels = images.detach().float().cpu().permute(0, 2, 3, 1).contiguous().numpy()
    colour = tuple(float(value) for value in fill)
    height, width = images.shape[-2:]
    found = [_textured(image, points, patch_size) for image in pixels]
    pairs = [
        _warp(image, source, colour, seed)
        for image, (source, _), seed in zip(pixels, found, seeds, strict=True)
    ]
    target = np.stack([moved for _, moved in pairs])
    stacked = torch.from_numpy(np.stack([warped for warped, _ in pairs])).permute(0, 3, 1, 2)
    return WarpedPair(
        warped=stacked.contiguous().to(images.device, images.dtype),
        source=np.stack([source for source, _ in found]),
        target=target,
        valid=np.stack([flat_free for _, flat_free in found]) & inside(target, (height, width)),
    )


def inside(points: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Return which points (x, y) [..., 2] lie on a pixel of an image of (height, width), bool [...]."""
    limits = np.array(image_size[::-1]) - 0.5
    return np.all((points >= -0.5) & (points < limits), axis=-1)


def _textured(image: np.ndarray, points: int, patch_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the centres of the patches with the largest pixel SD [K, 2], and whether it is above 0 [K]."""
    high, wide = patch_size
    rows, columns = image.shape[0] // high, image.shape[1] // wide
    cells = image[: rows * high, : columns * wide].astype(np.float64)
    cells = cells.reshape(rows, high, columns, wide, 3).transpose(0, 2, 4, 1, 3)
    cells = cells.reshape(rows * columns, 3, high * wide)
    # SD of each channel over the patch: a flat patch of any colour has none.
    spread = cells.std(axis=2).mean(axis=1)
    chosen = np.argsort(-spread, kind="stable")[:points]
    row, column = np.divmod(chosen, columns)
    centres = np.stack([(column + 0.5) * wide, (row + 0.5) * high], axis=1) - 0.5
    return centres, np.ptp(cells[chosen], axis=2).any(axis=1)


def _warp(
    image: np.ndarray, points: np.ndarray, colour: tuple[float, ...], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return an image [H, W, 3] under the warp that its seed draws, and where its points [K, 2] went."""
    random = np.random.default_rng(seed)
    turn, scale = random.uniform(-TURN, TURN), random.uniform(*SCALE)
    x, y = random.uniform(-SHIFT, SHIFT, 2)
    library = albumentations()
    affine = library.Affine(
        rotate=(turn, turn),
        scale=(scale, scale),
        keep_ratio=True,
        translate_percent={"x": (x, x), "y": (y, y)},
        fill=colour,
        p=1,
    )
    # Points outside are kept, so that every image has as many.
    kept = library.KeypointParams("xy", remove_invisible=False)
    done = library.Compose([affine], keypoint_params=kept)(image=image, keypoints=points)
    return done["image"], np.asarray(done["keypoints"], dtype=np.float64).reshape(points.shape)
