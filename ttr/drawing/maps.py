"""Pictures: maps over images on a stated scale, and the published figures. Colour-blind-safe throughout.

Every map is drawn with the scale it is given, never with one of its own choosing: a before and an after share
theirs, so that equal colours are equal numbers.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from ttr.drawing.colours import BLUE, VERMILLION

NORM_MAP = "viridis"
ATTENTION_MAP = "inferno"
SIMILARITY_MAP, DIFFERENCE_MAP = "cividis", "PuOr"
BEFORE, AFTER = VERMILLION, BLUE


#: Of a map's patches, so many per cent lie within a scale of its own.
WITHIN = 99.5
#: Of charts, dots an inch: sharp on a screen of twice the density.
DPI = 150
#: A fifteenth of the time of the smallest file, for a few hundredths of its size more.
PNG = {"compress_level": 3}
#: Of an outline on a picture: nowhere in the colours of a map.
LINE = (0, 255, 255)


def colourise(
    values: np.ndarray, high: float, colour_map: str, size: tuple[int, int], low: float = 0.0
) -> np.ndarray:
    """Colour a patch map on the scale ``low``..``high``, each patch a square, as uint8 [H, W, 3].

    Args:
        values: [rows, columns].
        high: value of the last colour; larger values take it too.
        colour_map: a matplotlib name.
        size: (height, width) in pixels.
        low: value of the first colour; smaller values take it too.
    """
    import matplotlib
    from PIL import Image

    scaled = np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
    colours = (255 * matplotlib.colormaps[colour_map](scaled)[..., :3]).round().astype(np.uint8)
    return np.asarray(Image.fromarray(colours).resize(size[::-1], Image.Resampling.NEAREST))


def overlay(pixels: np.ndarray, values: np.ndarray, high: float, opacity: float = 0.65) -> np.ndarray:
    """Lay an attention map over the greyscale image, uint8 [H, W, 3]; the scale is 0..``high``."""
    grey = pixels.astype(float) @ (0.299, 0.587, 0.114)
    colours = colourise(values, high, ATTENTION_MAP, pixels.shape[:2]).astype(float)
    return ((1 - opacity) * grey[..., None] + opacity * colours).round().astype(np.uint8)


def rim(inside: np.ndarray) -> np.ndarray:
    """Return the pixels of a mask that have a neighbour outside, bool [H, W]."""
    around = np.pad(inside, 1)
    within = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return inside & ~within


def colour_stops(colour_map: str, count: int = 9) -> str:
    """Return the colours of a map from low to high as a CSS list, for a colour bar."""
    import matplotlib
    from matplotlib.colors import to_hex

    return ", ".join(to_hex(colour) for colour in matplotlib.colormaps[colour_map](np.linspace(0, 1, count)))


def png_uri(pixels: np.ndarray) -> str:
    """Return an image as a data URI."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", **PNG)
    return uri(stream)


def png_of(figure: Any) -> io.BytesIO:
    """Return a figure as a PNG on white."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, facecolor="white", pil_kwargs=PNG)
    return stream


def finish(figure: Any) -> str:
    """Return a figure as a data URI of a PNG on white."""
    return uri(png_of(figure))


def below_extremes(values: np.ndarray) -> float:
    """Return the end of a scale within which nearly all lie: one bright patch must not darken a map."""
    return float(np.percentile(values, WITHIN))


def uri(stream: io.BytesIO) -> str:
    """Return a PNG in memory as a data URI."""
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
