"""What an answer is made of, by asking for it again: at other pixels, or how it changes with them.

input-gradient    mean of |ds/d(pixel)| over a patch and its channels (after Simonyan et al. 2014)
perturbation      s(image) - s(image whose patch is 0, the mean of normalised pixels) (Zeiler and Fergus
                  2014); a pass a patch, so slow, and a reference for the others
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ttr.attribution.passes import Pass, slopes
from ttr.attribution.targets import Score
from ttr.backbones.base import Backbone
from ttr.hooks import evaluation_mode


def input_gradient(seen: Pass, score: Score) -> Tensor:
    """Return how much the score changes with the pixels of each patch, [B, rows, columns]."""
    (slope,) = slopes(seen, score(seen.feature), [seen.images])
    per_pixel = slope.float().abs().mean(dim=1, keepdim=True)
    # A patch that the image does not fill counts what it has.
    return F.avg_pool2d(per_pixel, seen.backbone.patch_size, ceil_mode=True, count_include_pad=False)[:, 0]


@torch.no_grad()
def perturbation(backbone: Backbone, images: Tensor, score: Score, batch_size: int) -> Tensor:
    """Return how much the score drops without each patch, [B, rows, columns]."""
    images = backbone.prepare(images)
    grid = backbone.layout_for(images).grid
    cells = [(row, column) for row in range(grid[0]) for column in range(grid[1])]
    drops = []
    with evaluation_mode(backbone.model):
        feature = backbone.features(images)
        score = score.settled(feature)
        for item, (image, whole) in enumerate(zip(images, score(feature), strict=True)):
            own = score.part(item)
            for first in range(0, len(cells), batch_size):
                without = _without(image, cells[first : first + batch_size], backbone.patch_size)
                drops.append(whole - own(backbone.features(without)))
    return torch.cat(drops).unflatten(0, (len(images), *grid)).float()


def _without(image: Tensor, cells: list[tuple[int, int]], patch_size: tuple[int, int]) -> Tensor:
    """Return copies of an image [C, H, W], each without one patch."""
    height, width = patch_size
    copies = image.repeat(len(cells), 1, 1, 1)
    for copy, (row, column) in zip(copies, cells, strict=True):
        copy[:, row * height : (row + 1) * height, column * width : (column + 1) * width] = 0
    return copies
