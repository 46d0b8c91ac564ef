"""Where a finding lies, as a visitor draws or loads it, and how maps score against it. It has no widgets.

The numbers are those of ``ttr localize``, of one image: how sure they are, one image cannot say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ttr.apps.image.decoding import NAME
from ttr.apps.image.intake import MAX_BYTES, Picture, take_in_bytes
from ttr.apps.image.uploads import content_of
from ttr.backbones.base import Backbone
from ttr.errors import ImageError
from ttr.evaluate.localisation import METRICS, Truth, is_flat
from ttr.evaluate.masks import outline_as_seen
from ttr.studies.localize.localisation import centre_scores, random_scores, scores_of
from ttr.wording import percent

PNG, DEPTH = b"\x89PNG\r\n\x1a\n", 24
#: Of the random maps that a map is held beside.
SEED = 42


@dataclass(frozen=True, eq=False)
class Outline:
    """A part of one picture.

    Attributes:
        inside: bool [H, W] of the picture.
        said: what it is, in words.
        corners: (left, top, right, bottom) in pixels: of the box, or of the smallest box around a mask.
        sha256: of the picture's file.
    """

    inside: np.ndarray = field(repr=False)
    said: str
    corners: tuple[int, int, int, int]
    sha256: str

    def of(self, picture: Picture) -> bool:
        """Return whether it was drawn on this picture, in whatever window."""
        return self.sha256 == picture.sha256 and self.inside.shape == picture.image.size[::-1]


@dataclass(frozen=True)
class Localised:
    """How maps of one image score against an outline, by each of METRICS.

    Attributes:
        share: of what the model sees, inside the outline, 0..1.
        values: {metric: a number each map}.
        random: {metric: mean over maps of random numbers}.
        centre: {metric: of a centred Gaussian}.
        flat: of each map, whether all of it is one number.
    """

    share: float
    values: dict[str, tuple[float, ...]]
    random: dict[str, float]
    centre: dict[str, float]
    flat: tuple[bool, ...]


def box_on(picture: Picture, corners: Sequence[float | None]) -> Outline:
    """Return a box, given by two opposite corners (x, y, x, y) in pixels of the picture.

    Raises:
        ImageError: a corner that is missing or leaves the picture, or a box without a pixel.
    """
    width, height = picture.image.size
    given = [math.nan if corner is None else float(corner) for corner in corners]
    if not all(math.isfinite(corner) for corner in given):
        raise ImageError("a box needs all four of its numbers: left, top, right and bottom, in pixels")
    left, right = sorted(round(x) for x in given[::2])
    top, bottom = sorted(round(y) for y in given[1::2])
    if left < 0 or top < 0 or right > width or bottom > height:
        raise ImageError(
            f"the box {left}, {top}, {right}, {bottom} leaves the picture; needed 0 to {width} from left to "
            f"right and 0 to {height} from top to bottom"
        )
    if left == right or top == bottom:
        raise ImageError("a box without a pixel says nothing; drag from one corner to the one opposite")
    inside = np.zeros((height, width), dtype=bool)
    inside[top:bottom, left:right] = True
    said = f"box from {left}, {top} to {right}, {bottom}"
    return Outline(inside, said, (left, top, right, bottom), picture.sha256)


def read_mask(path: str | Path) -> Picture:
    """Read a visitor's mask, as every file of theirs: bounded, and elsewhere.

    Raises:
        ImageError: as :func:`ttr.apps.image.intake.take_in`; or no PNG, or one of 16 bits.
    """
    content = content_of(path, MAX_BYTES, NAME)
    if content and not content.startswith(PNG):
        raise ImageError(f"{NAME} is no PNG; needed one, since other formats blur the rim of a mask")
    if content[DEPTH : DEPTH + 1] == b"\x10":
        raise ImageError(f"{NAME} has 16 bits a colour, and small numbers would be lost; needed 8 or fewer")
    return take_in_bytes(content)


def mask_on(picture: Picture, mask: Picture) -> Outline:
    """Return a mask: every pixel that is neither black nor transparent is inside.

    Raises:
        ImageError: another size than the picture's, or nothing inside.
    """
    (width, height), (columns, rows) = picture.image.size, mask.image.size
    if (width, height) != (columns, rows):
        raise ImageError(
            f"the mask has {columns} × {rows} pixels and the picture {width} × {height}; needed one size"
        )
    inside: np.ndarray = np.asarray(mask.image).max(axis=2) > 0
    if not inside.any():
        raise ImageError("the mask is all black, so nothing lies inside; needed a pixel that is not")
    down, across = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    corners = (int(across[0]), int(down[0]), int(across[-1]) + 1, int(down[-1]) + 1)
    return Outline(inside, f"mask of {percent(float(inside.mean()))} of the picture", corners, picture.sha256)


def localised(backbone: Backbone, outline: Outline, maps: Sequence[np.ndarray]) -> Localised:
    """Score maps, [rows, columns] each, against an outline as the backbone sees it.

    Raises:
        ImageError: the model sees nothing of the outline, or nothing else.
    """
    seen = outline_as_seen(backbone, outline.inside.astype(np.uint8))
    truth = Truth.of(seen, (maps[0].shape[0], maps[0].shape[1]))
    if not 0 < truth.share < 1:
        what = "covers all that the model sees" if truth.share else "is too small, or outside what it sees"
        raise ImageError(f"the outline {what}, so no map could miss or hit it; draw another")
    scores = [_named(scores_of(each, truth)) for each in maps]
    return Localised(
        share=truth.share,
        values={metric: tuple(each[metric] for each in scores) for metric in METRICS},
        random=_named(random_scores(truth, np.random.default_rng(SEED))),
        centre=_named(centre_scores(truth)),
        flat=tuple(is_flat(each) for each in maps),
    )


def _named(scores: np.ndarray) -> dict[str, float]:
    """Return the metrics alone: where to cut a map would take other images to say."""
    return {metric: float(score) for metric, score in zip(METRICS, scores, strict=False)}
