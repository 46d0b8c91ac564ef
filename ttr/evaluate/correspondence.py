"""Patch correspondence: does the patch at a point find its counterpart in another image?

The patch under each keypoint of the source is matched to the most similar (cosine) of all patches of the
target. PCK (percentage of correct keypoints; Yang and Ramanan 2013) counts a match whose centre lies within a
share alpha of the extent of the image or of the object's box; nearest-patch accuracy counts only the very
patch that holds the target. Nothing is trained, so what is measured is the patches alone.

Coordinates are (x, y) in pixels of the model's input, and a pixel's centre is at its index.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ttr.errors import OptionError
from ttr.evaluate.warps import inside


def matches(
    source_patches: Tensor,
    target_patches: Tensor,
    source: np.ndarray,
    target: np.ndarray,
    valid: np.ndarray,
    *,
    grid: tuple[int, int],
    image_size: tuple[int, int],
    alpha: float = 0.1,
    extent: np.ndarray | None = None,
    candidates: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return PCK@alpha and nearest-patch accuracy of each pair of images.

    Args:
        source_patches: patch tokens of the source images, [B, P, D], row by row of ``grid``.
        target_patches: of the target images, [B, P, D].
        source: keypoints in the source images, [B, K, 2].
        target: where they are in the target images, [B, K, 2].
        valid: which of them count, bool [B, K]. A keypoint outside either image (cropped away) never counts.
        grid: patch grid (rows, columns), of both images.
        image_size: (height, width) of both in pixels.
        alpha: tolerance, as a share of the larger side of ``extent``.
        extent: (width, height) of each target's box, [B, 2], in pixels; None for the image itself.
        candidates: which patches of each target can be matched, bool [B, P]; None: all.

    Returns:
        (pck, nearest), float64 [B] each, 0..1; NaN for an image without a keypoint that counts.

    Raises:
        OptionError: shapes that do not match, or an alpha that is not above 0.
    """
    source, target, valid = (np.asarray(values) for values in (source, target, valid))
    _check(source_patches, target_patches, source, target, valid, grid, alpha)
    size = np.array(image_size, dtype=np.float64)[::-1] / np.array(grid)[::-1]
    counted = valid & inside(source, image_size) & inside(target, image_size)
    asked = torch.as_tensor(patch_at(source, size, grid)).to(source_patches.device)
    batch = torch.arange(len(source_patches), device=source_patches.device)[:, None]
    queries = normalize(source_patches[batch, asked].float(), dim=-1)
    similarity = queries @ normalize(target_patches.float(), dim=-1).to(queries.device).mT
    if candidates is not None:
        barred = ~torch.as_tensor(candidates, device=similarity.device)[:, None]
        similarity = similarity.masked_fill(barred, -torch.inf)
    found = similarity.argmax(dim=-1).cpu().numpy()
    row, column = np.divmod(found, grid[1])
    centres = np.stack([column + 0.5, row + 0.5], axis=-1) * size - 0.5
    box = np.array([image_size[::-1]]) if extent is None else np.asarray(extent, dtype=np.float64)
    close = np.linalg.norm(centres - target, axis=-1) <= alpha * box.max(axis=1)[:, None]
    return _share(close, counted), _share(found == patch_at(target, size, grid), counted)


def patch_at(points: np.ndarray, size: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Return which patch of a size (width, height) holds each point, int64 [...]; outside, the rim's."""
    last = np.array(grid)[::-1] - 1
    place = np.clip(np.floor((points + 0.5) / size), 0, last).astype(np.int64)
    return place[..., 1] * grid[1] + place[..., 0]


def _share(right: np.ndarray, counted: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (right & counted).sum(axis=1) / counted.sum(axis=1)


def _check(
    source_patches: Tensor,
    target_patches: Tensor,
    source: np.ndarray,
    target: np.ndarray,
    valid: np.ndarray,
    grid: tuple[int, int],
    alpha: float,
) -> None:
    tokens, points = tuple(source_patches.shape), source.shape
    if len(tokens) != 3 or tokens != tuple(target_patches.shape) or tokens[1] != grid[0] * grid[1]:
        raise OptionError(
            f"got patches {tokens} and {tuple(target_patches.shape)}; "
            f"needed [B, {grid[0] * grid[1]}, D] of both, for a grid of {grid[0]}x{grid[1]}"
        )
    if points != (tokens[0], *points[1:2], 2) or target.shape != points or valid.shape != points[:2]:
        raise OptionError(
            f"got keypoints {points} and {target.shape} and valid {valid.shape}; "
            f"needed [{tokens[0]}, K, 2] twice and [{tokens[0]}, K]"
        )
    if not alpha > 0:
        raise OptionError(f"alpha={alpha}; needed a share above 0")
