"""Which part of a picture the model sees: where a patch map belongs on the picture that a person sees.

Preprocessing resizes and crops, each library in its own way. Rather than repeat its rules, a ramp is sent
through it: a picture whose red says how far right a pixel is, and whose green says how far down. What comes
out says where each edge of the input came from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ttr.backbones.base import Backbone

#: Pixels of the ramp's longer side, about.
MOST_SIDE = 1024


@dataclass(frozen=True)
class Frame:
    """A part of a picture, in shares of its width and height, 0..1."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def whole(self) -> bool:
        """Whether it is the whole picture, to within a hundredth."""
        return self.left < 0.01 and self.top < 0.01 and self.right > 0.99 and self.bottom > 0.99

    def box(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return (left, top, right, bottom) in pixels of a picture of ``size`` (width, height)."""
        width, height = size
        return (
            round(self.left * width),
            round(self.top * height),
            round(self.right * width),
            round(self.bottom * height),
        )

    def part(self, left: float, top: float, right: float, bottom: float) -> Frame:
        """Return a part of it, given in shares of itself, as a part of the picture."""
        width, height = self.right - self.left, self.bottom - self.top
        return Frame(
            self.left + width * left,
            self.top + height * top,
            self.left + width * right,
            self.top + height * bottom,
        )


def frame_of(backbone: Backbone, size: tuple[int, int]) -> Frame:
    """Return the part of a picture of ``size`` (width, height) that the backbone's preprocessing keeps."""
    from PIL import Image

    if backbone.preprocess_image is None or backbone.normalisation is None:
        return Frame(0, 0, 1, 1)
    width, height = _reduced(*size)
    ramp = np.zeros((height, width, 3), dtype=np.uint8)
    ramp[..., 0] = np.rint(255 * (np.arange(width) + 0.5) / width)[None, :]
    ramp[..., 1] = np.rint(255 * (np.arange(height) + 0.5) / height)[:, None]
    mean, deviation = backbone.normalisation
    seen = backbone.preprocess(Image.fromarray(ramp)).float().cpu()
    shares = (seen * deviation[:, None, None] + mean[:, None, None]).numpy()
    left, right = _ends(shares[0].mean(axis=0))
    top, bottom = _ends(shares[1].mean(axis=1))
    return Frame(left, top, right, bottom)


def _reduced(width: int, height: int) -> tuple[int, int]:
    """Return a smaller size of the same form: the longer side follows the shorter one, which is whole."""
    short, long = sorted((width, height))
    reduced = math.ceil(short / max(1, long / MOST_SIDE))
    longer = round(reduced * long / short)
    return (longer, reduced) if width > height else (reduced, longer)


def _ends(line: np.ndarray) -> tuple[float, float]:
    """Return where a straight line of pixel centres begins and ends; resampling bends its ends alone."""
    places = np.arange(len(line)) + 0.5
    inner = slice(len(line) // 8, len(line) - len(line) // 8)
    slope, start = np.polyfit(places[inner], line[inner], 1)
    return float(np.clip(start, 0, 1)), float(np.clip(start + slope * len(line), 0, 1))
