"""What readers see: the image as it was given, a map over it, and maps that are not the image's own.

No picture says what it is: all are RGB of the image's own shape, without metadata, under a name drawn at
random. Each map is drawn on a scale of its own that ends where nearly all of its patches do: on a shared one
the dimmer map would tell which it is.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from ttr.drawing.maps import ATTENTION_MAP, below_extremes, colourise
from ttr.evaluate.placement import Placement

if TYPE_CHECKING:
    from PIL.Image import Image

#: Longer side of a picture in pixels, at most.
SIDE = 1024
#: Of a map at its largest value; 0 is transparent, so that the picture is kept.
OPACITY = 0.7
#: How a map is taken from its image, in turn: another image's, moved by half its size, and in random order.
PERTURBATIONS = ("other", "shifted", "random")


def shown_size(image: Image) -> tuple[int, int]:
    """Return height and width of an image as it is shown."""
    scale = min(1.0, SIDE / max(image.size))
    return max(1, round(image.height * scale)), max(1, round(image.width * scale))


def shown(image: Image) -> np.ndarray:
    """Return an image as it is shown, uint8 [H, W, 3]."""
    from PIL import Image as Pictures

    height, width = shown_size(image)
    return np.asarray(image.convert("RGB").resize((width, height), Pictures.Resampling.LANCZOS))


def laid_over(pixels: np.ndarray, values: np.ndarray, placed: Placement) -> np.ndarray:
    """Return a patch map over its image, as far as its values are large, uint8 [H, W, 3].

    Args:
        pixels: uint8 [H, W, 3], the image.
        values: [rows, columns], 0 or more.
        placed: where the image lies in the model's input.
    """
    spread = placed.spread(values, pixels.shape[:2], 0.0)
    high = below_extremes(values)
    strength = np.clip(spread / high, 0, 1) if high > 0 else np.zeros_like(spread)
    colours = colourise(spread, high, ATTENTION_MAP, pixels.shape[:2]).astype(np.float32)
    opacity = OPACITY * strength[..., None]
    return ((1 - opacity) * pixels + opacity * colours).round().astype(np.uint8)


def perturbed(kind: str, own: np.ndarray, other: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a map that is not its image's, [rows, columns]; ``kind``: of :data:`PERTURBATIONS`."""
    if kind == "other":
        return other
    if kind == "shifted":
        return np.roll(own, (own.shape[0] // 2, own.shape[1] // 2), axis=(0, 1))
    return random.permutation(own.ravel()).reshape(own.shape)


def png(pixels: np.ndarray) -> bytes:
    """Return a picture as a PNG that holds its pixels and nothing else."""
    from PIL import Image as Pictures

    stream = io.BytesIO()
    Pictures.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
