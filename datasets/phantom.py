"""The labelled phantom images: textures on a disc with a dark border, with every truth known.

They look like fundus photographs and radiographs in the one respect that matters here: a bright field inside
a dark border, where a backbone may park its outliers. Each image has a class (its texture), a mask of the
disc, and keypoints on it; all follow from ``(seed, index)`` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

CLASSES = ("rings", "stripes", "checks", "blobs", "spokes", "grain")
SIZE = 224


@dataclass(frozen=True)
class PhantomImage:
    """One phantom image and its truth.

    Attributes:
        image: RGB, ``size`` x ``size`` pixels.
        label: name of the texture, one of the set's classes.
        mask: bool [size, size], the disc.
        keypoints: float [5, 2], (x, y) in pixels: the centre, and four points on the rim.
        name: ``phantom-<seed>-<index>-<label>``.
    """

    image: Image
    label: str
    mask: np.ndarray
    keypoints: np.ndarray
    name: str


def phantom_images(
    count: int, *, seed: int = 0, classes: int = 4, size: int = SIZE
) -> Iterator[PhantomImage]:
    """Yield ``count`` images; the classes take turns, so any run of them is balanced.

    Args:
        count: how many.
        seed: of the set; the same seed and index give the same image.
        classes: how many of the six textures take part.
        size: side in pixels.
    """
    for index in range(count):
        yield phantom_image(index, seed=seed, classes=classes, size=size)


def phantom_image(index: int, *, seed: int = 0, classes: int = 4, size: int = SIZE) -> PhantomImage:
    """Draw image ``index`` of the set ``seed``."""
    from PIL import Image

    random = np.random.default_rng([seed, index])
    label = CLASSES[:classes][index % classes]
    centre = size * (0.5 + random.uniform(-0.03, 0.03, 2))
    radius = size * random.uniform(0.42, 0.47)
    y, x = np.mgrid[:size, :size].astype(float)
    u, v = (x - centre[0]) / radius, (y - centre[1]) / radius
    distance = np.hypot(u, v)
    texture = _texture(label, u, v, random)
    shade = (0.55 + 0.3 * texture) * (1 - 0.25 * distance**2)
    tint = np.array([1.0, 0.85, 0.75]) + random.uniform(-0.1, 0.1, 3)
    mask = distance <= 1
    noise = random.normal(0, 0.03, (size, size, 1))
    pixels = np.where(mask[..., None], shade[..., None] * tint + noise, 0.02 + 0.3 * np.abs(noise))
    return PhantomImage(
        image=Image.fromarray((255 * pixels.clip(0, 1)).round().astype(np.uint8)),
        label=label,
        mask=mask,
        keypoints=centre + radius * np.array([[0, 0], [0, -1], [1, 0], [0, 1], [-1, 0]]),
        name=f"phantom-{seed}-{index:04d}-{label}",
    )


def _texture(label: str, u: np.ndarray, v: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a texture in -1..1 over disc coordinates, with random frequency, phase and direction."""
    frequency, phase, turn = random.uniform(5, 8), random.uniform(0, 2 * np.pi), random.uniform(0, np.pi)
    along, across = u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn)
    if label == "rings":
        return np.sin(2 * frequency * np.hypot(u, v) + phase)
    if label == "stripes":
        return np.sin(2 * frequency * along + phase)
    if label == "checks":
        return np.sign(np.sin(2 * frequency * along + phase) * np.sin(2 * frequency * across + phase))
    if label == "spokes":
        return np.sin(2 * round(frequency) * np.arctan2(v, u) + phase)
    if label == "grain":
        return random.uniform(-1, 1, u.shape)
    centres, widths = random.uniform(-0.8, 0.8, (12, 2)), random.uniform(0.06, 0.14, 12)
    blobs = [np.exp(-((u - a) ** 2 + (v - b) ** 2) / w**2) for (a, b), w in zip(centres, widths, strict=True)]
    return 2 * np.max(blobs, axis=0) - 1
