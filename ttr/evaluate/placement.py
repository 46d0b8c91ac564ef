"""The way back from the model's input to the image's own pixels: where each of them came to lie.

A backbone resizes and crops in its own way, and no library tells how. So it is asked, as for masks: images
that are white beyond a line and black before it go through its preprocessing. What is white of the input says
where that line came to lie, to a small part of a pixel, since a resampling moves light and makes none. Two
lines an axis tell scale and place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttr.backbones.base import Backbone
from ttr.errors import ImageError, ModelError
from ttr.evaluate.masks import seen_grey

#: Of the part of the image that is seen, so far in lie the two lines.
LINES = (0.1, 0.9)
#: What the rows of an input may differ by that shows lines as upright as they were; 1 is white.
UPRIGHT = 0.1


@dataclass(frozen=True)
class Placement:
    """Where an image came to lie in the model's input: ``input = scale · image + offset`` on each axis.

    Attributes:
        size: height and width of the image in pixels.
        seen: height and width of the input in pixels.
        patch: height and width of a patch in the input's pixels.
        scale: pixels of the input a pixel of the image, vertically and horizontally.
        offset: of the image's upper left corner in the input, in its pixels.
    """

    size: tuple[int, int]
    seen: tuple[int, int]
    patch: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[float, float]

    def spread(self, values: np.ndarray, size: tuple[int, int], outside: float) -> np.ndarray:
        """Return a patch map on the image: at each pixel the value of the patch that its centre lies in.

        Args:
            values: [rows, columns], the patch grid of the whole input.
            size: height and width of what is returned, over the same image (its own, or as it was stored).
            outside: value of pixels that the model did not see.

        Returns:
            float32 [height, width].
        """
        rows, columns = (self._patches(axis, size[axis]) for axis in (0, 1))
        spread = values.astype(np.float32)[np.ix_(rows, columns)]
        spread[rows < 0], spread[:, columns < 0] = outside, outside
        return spread

    def _patches(self, axis: int, count: int) -> np.ndarray:
        """Return the patch that each of ``count`` pixels along an axis lies in, -1 for none, int64."""
        centres = (np.arange(count) + 0.5) * (self.size[axis] / count)
        places = self.scale[axis] * centres + self.offset[axis]
        inside = (places >= 0) & (places < self.seen[axis])
        return np.where(inside, places // self.patch[axis], -1).astype(np.int64)


def placement(backbone: Backbone, size: tuple[int, int]) -> Placement:
    """Return where a backbone's preprocessing puts an image of ``size``, (height, width) in pixels.

    Raises:
        ModelError: the preprocessing of this in-memory model is unknown, or does more than resize, crop and
            pad.
        ImageError: next to nothing of such an image is seen.
    """
    black, white = (seen_grey(backbone, np.full(size, shade)) for shade in (0.0, 1.0))
    span = float((white - black).max())
    image = (white - black) / span
    found = [_along(backbone, size, axis, black, span, image) for axis in (0, 1)]
    (high, above), (wide, left) = found
    seen = (black.shape[0], black.shape[1])
    return Placement(size, seen, backbone.patch_size, (high, wide), (above, left))


def _along(
    backbone: Backbone, size: tuple[int, int], axis: int, black: np.ndarray, span: float, image: np.ndarray
) -> tuple[float, float]:
    """Return scale and offset along an axis; ``image``: which part of each pixel of the input is image."""

    def seen(profile: np.ndarray) -> np.ndarray:
        drawn = np.broadcast_to(profile if axis else profile[:, None], size)
        return _profile((seen_grey(backbone, drawn) - black) / span, image, axis, backbone.name)

    length = size[axis]
    covered = _profile(image, image, axis, backbone.name)
    shown = seen(np.linspace(0, 1, length))[covered > 0.99] * length
    first, last = shown[0], shown[-1]
    if first > last:
        raise _turned(backbone.name)
    lines = [round(first + share * (last - first)) for share in LINES]
    if lines[0] >= lines[1]:
        raise ImageError(
            f"{backbone.name} shows the model less than three pixels of an image of {size[1]} × {size[0]}; "
            "needed more to place a map on it: give a larger or less elongated image"
        )
    middle = len(covered) // 2
    end = middle + covered[middle:].sum()
    ends = [end - seen(np.arange(length) >= line).sum() for line in lines]
    scale = float(ends[1] - ends[0]) / (lines[1] - lines[0])
    return scale, float(ends[0]) - scale * lines[0]


def _profile(share: np.ndarray, image: np.ndarray, axis: int, name: str) -> np.ndarray:
    """Return the shares of white along an axis, which are the same wherever the image is."""
    across = share if axis else share.T
    inside = (image if axis else image.T).max(axis=1) > 0.99
    if not inside.any() or np.ptp(across[inside], axis=0).max() > UPRIGHT:
        raise _turned(name)
    return across[inside].mean(axis=0)


def _turned(name: str) -> ModelError:
    return ModelError(
        f"the preprocessing of {name} does more than resize, crop and pad an image; needed one that does no "
        "more to place a map on it"
    )
