"""Points of an image file, carried to the pixels that the model sees.

As with masks, the backbone is asked instead of its preprocessing read: two images whose brightness grows from
left to right and from top to bottom go through it, and the brightness that comes out at a pixel says which
place of the file is seen there. A resize and a crop make that an affine map, fitted by least squares.

Brightness has 256 steps only, about as many as the model's input has pixels a side, and every pass of a
resize rounds to them: a smooth ramp would be off by half a pixel. Noise from a fixed seed, as much as
survives the averaging of the resize, makes the rounding random, and the fit averages both away, to about a
tenth of a pixel.
"""

from __future__ import annotations

import numpy as np

from ttr.backbones.base import Backbone
from ttr.errors import ModelError
from ttr.evaluate.masks import seen_grey

#: The ramps and their noise keep clear of black and white.
DARKEST, BRIGHTEST = 24, 231
#: Amplitude of the noise in steps of brightness: at an unchanged size, and at most.
NOISE, LOUDEST = 3.0, 24.0
#: Share of a side at its ends that is left out: a resize sees only half of its window there.
RIM = 0.03
#: Largest RMS residual of the fit, as a share of the side; the noise alone makes a hundredth.
MISFIT = 0.03
#: Largest ratio of the map's two scales.
FLATTEST = 50


def points_as_seen(backbone: Backbone, image_size: tuple[int, int], points: np.ndarray) -> np.ndarray:
    """Return points through the same resize and crop as their image.

    Args:
        backbone: whose preprocessing the image goes through.
        image_size: (height, width) of the image in pixels.
        points: (x, y) in pixels of the image, float [..., 2]; a pixel's centre is at its index. A box goes
            through as its corners.

    Returns:
        float64 [..., 2], (x, y) in pixels of the model's input; outside of it where the crop cuts them off.

    Raises:
        ModelError: the preprocessing is unknown, or maps the image by no affine map.
    """
    matrix = placement(backbone, image_size)
    return np.asarray(points, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2]


def placement(backbone: Backbone, image_size: tuple[int, int]) -> np.ndarray:
    """Return the affine map from pixels of an image to pixels of the model's input, float64 [2, 3].

    It depends on the image's size alone: whoever has many images of one size asks once. See
    :func:`points_as_seen`.
    """
    pixels, places = _places(backbone, image_size)
    sides = np.array(image_size[::-1])
    solution = np.linalg.lstsq(pixels, places, rcond=None)[0]
    # The fit and not the noisy places tells the rim, which would bend the fit towards the middle.
    fitted = pixels @ solution
    inner = ((fitted > RIM * sides) & (fitted < (1 - RIM) * sides)).all(axis=1)
    if inner.sum() > pixels.shape[1]:
        solution = np.linalg.lstsq(pixels[inner], places[inner], rcond=None)[0]
    misfit = np.sqrt(((places - pixels @ solution) ** 2).mean(axis=0))
    towards = solution[:2].T
    if (misfit > MISFIT * sides).any() or np.linalg.cond(towards) > FLATTEST:
        raise ModelError(
            f"the preprocessing of {backbone.name} is no resize and crop of an image of "
            f"{image_size[0]}x{image_size[1]} px, so keypoints cannot follow it; use one that is"
        )
    back = np.linalg.inv(towards)
    return np.hstack([back, -back @ solution[2][:, None]])


def _places(backbone: Backbone, image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels of the model's input, (x, y, 1), and the place (x, y) of the image that each shows."""
    black, white = (seen_grey(backbone, np.full(image_size, shade)) for shade in (0.0, 1.0))
    shown = white - black > (white - black).max() / 2
    shrunk = np.sqrt(np.prod(image_size) / shown.sum())
    noise = min(LOUDEST, NOISE * max(1.0, shrunk))
    places = []
    for axis in (1, 0):
        ramp = _ramp(image_size, axis, noise)
        brightness = (seen_grey(backbone, ramp) - black)[shown] / (white - black)[shown]
        share = (255 * brightness - DARKEST) / (BRIGHTEST - DARKEST)
        places.append(share * (image_size[axis] - 1))
    y, x = np.nonzero(shown)
    pixels = np.stack([x, y, np.ones_like(x)], axis=1).astype(np.float64)
    return pixels, np.stack(places, axis=1)


def _ramp(image_size: tuple[int, int], axis: int, noise: float) -> np.ndarray:
    """Return brightness 0..1 that grows along an axis, with uniform noise up to ``noise`` / 255, [H, W]."""
    share = np.expand_dims(np.linspace(0, 1, image_size[axis]), 1 - axis)
    level = DARKEST + (BRIGHTEST - DARKEST) * share
    return (level + np.random.default_rng(axis).uniform(-noise, noise, image_size)) / 255
