"""A picture as a viewer in the browser gets it: what is shown, the values behind it, and how long a pixel is.

A picture of more than :data:`MOST_PIXELS` is reduced by a whole number, each pixel the mean of its square.
Values travel in a PNG, sixteen bits in two of its colours, so that a window is chosen without asking again.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ttr.apps.image.intake import Picture
from ttr.datasets.dicom.radiograph import Radiograph, Window
from ttr.digests import sha256

MOST_PIXELS = 1_500_000
LEVELS = 2**16 - 1
#: Pixels on a side of a picture in a list, twice as many as it takes on the page.
THUMBNAIL = 96
#: Quick to write; on the way to a browser of this machine size hardly matters.
PNG = {"compress_level": 1}


@dataclass(frozen=True)
class Values:
    """What lies behind a grey picture, as ``low + step n`` with n in 0..65,535.

    Attributes:
        png: a PNG of the picture's size: red 256's of n, green the rest, blue 255 where it is no part of the
            image.
        low: value of n = 0.
        step: between two n.
        window: centre and width of the window that is shown first.
        inverted: whether low values are white.
        unit: ``"HU"``, or "".
        own: in words how it is shown first where no straight window does it, or "".
    """

    png: bytes = field(repr=False)
    low: float
    step: float
    window: tuple[float, float]
    inverted: bool
    unit: str
    own: str = ""


@dataclass(frozen=True)
class Plate:
    """A picture for a viewer. Make one with :func:`plate_of`.

    Attributes:
        identity: of the picture as it is shown; two windows of one file are two.
        png: grey or colours, width x height / ``reduced``.
        size: width and height of the whole picture, in pixels.
        reduced: how many pixels of it lie along a side of one of the PNG's.
        values: behind a DICOM image in grey, or None.
        spacing: millimetres of a pixel of the whole picture, across and down, or None.
    """

    identity: str
    png: bytes = field(repr=False)
    size: tuple[int, int]
    reduced: int
    values: Values | None = None
    spacing: tuple[float, float] | None = None


def plate_of(picture: Picture) -> Plate:
    """Return a picture as a viewer gets it."""
    size = picture.image.size
    reduced, png, behind = reduced_by(size), shown_png(picture), picture.radiograph
    return Plate(
        identity=sha256([png, picture.sha256.encode()])[:20],
        png=png,
        size=size,
        reduced=reduced,
        values=None
        if behind is None or behind.values.ndim == 3
        else values_of(behind, picture.window, reduced),
        spacing=spacing_of(behind),
    )


def reduced_by(size: tuple[int, int]) -> int:
    """Return how many pixels of a picture of ``size`` lie along a side of one of its plate's."""
    return math.ceil(math.sqrt(size[0] * size[1] / MOST_PIXELS))


def shown_png(picture: Picture) -> bytes:
    """Return a picture as it is shown, as a PNG of its plate's size."""
    reduced = reduced_by(picture.image.size)
    pixels = np.asarray(picture.image.reduce(reduced) if reduced > 1 else picture.image)
    is_grey = bool((pixels == pixels[..., :1]).all())
    return _png(pixels[..., 0] if is_grey else pixels)


def thumbnail_png(picture: Picture) -> bytes:
    """Return a picture within :data:`THUMBNAIL` pixels on each side, as a PNG."""
    small = picture.image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return _png(np.asarray(small))


def spacing_of(found: Radiograph | None) -> tuple[float, float] | None:
    """Return the millimetres across and down of a pixel once pixels are square; None where not known."""
    if found is None or found.spacing is None:
        return None
    height, width = found.values.shape[:2]
    down, across = found.spacing
    return across * width / found.size[0], down * height / found.size[1]


def step_of(found: Radiograph, reduced: int) -> float:
    """Return how far apart two of a plate's values are: 1 where that is exact."""
    low, high = found.range
    whole = reduced == 1 and high - low <= LEVELS and found.is_whole
    return 1.0 if whole or high == low else (high - low) / LEVELS


def values_of(found: Radiograph, window: Window | None, reduced: int) -> Values:
    """Return the values behind a radiograph in grey, on the pixels of its plate."""
    values = _fitted(found.values.astype(np.float64), found.size, reduced)
    low, high = found.range
    step = step_of(found, reduced)
    numbers = np.rint((values.clip(low, high) - low) / step).astype(np.uint16)
    outside = np.zeros_like(numbers, dtype=np.uint8)
    if found.padding is not None:
        outside = np.uint8(255) * (_fitted(found.padding.astype(np.float64), found.size, reduced) >= 0.5)
    packed = np.stack([numbers >> 8, numbers & 255, outside], axis=-1).astype(np.uint8)
    return Values(
        _png(packed),
        float(low),
        step,
        shown_window(found, window),
        found.inverted,
        unit_of(found),
        own_way(found, window),
    )


def own_way(found: Radiograph, window: Window | None) -> str:
    """Return in words how a radiograph is shown where no straight window does, or ""."""
    if window is None and found.table is not None and not found.own_range:
        return "the file's own table of greys"
    chosen = window or (found.windows[0] if found.windows and not found.own_range else None)
    curved = found.curve == "SIGMOID" and chosen in found.windows
    return f"{chosen.center:g} / {chosen.width:g} along the file's curve" if curved and chosen else ""


def unit_of(found: Radiograph) -> str:
    """Return what a radiograph's values are measured in, or ""."""
    return "HU" if found.modality == "CT" else ""


def shown_window(found: Radiograph, window: Window | None) -> tuple[float, float]:
    """Return the centre and width in which a radiograph is shown, of its own range where it has none."""
    first = found.windows[0] if found.windows and not found.own_range and found.table is None else None
    if (chosen := window or first) is not None:
        return chosen.center, chosen.width
    low, high = found.range
    return (low + high) / 2, high - low or 1.0


def _fitted(values: np.ndarray, size: tuple[int, int], reduced: int) -> np.ndarray:
    """Return values on the pixels of the plate: the nearest of a pixel that is no square, then means."""
    width, height = size
    if values.shape != (height, width):
        rows = (np.arange(height) * values.shape[0]) // height
        columns = (np.arange(width) * values.shape[1]) // width
        values = values[rows[:, None], columns]
    if reduced == 1:
        return values
    return np.asarray(Image.fromarray(values.astype(np.float32)).reduce(reduced), dtype=np.float64)


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", **PNG)
    return stream.getvalue()
