"""Truth that lies in an image's own pixels, carried to the pixels that the model sees.

A backbone resizes and crops in its own way, and no library tells how. So it is asked: each class of a mask
goes through the backbone's preprocessing as an image that is white where the class is and black elsewhere. A
black and a white image beside them undo the normalisation, whatever it is, and show which pixels belong to
the image at all. Of each pixel the class with the largest share wins.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.datasets.registry import IGNORE


def mask_as_seen(backbone: Backbone, mask: np.ndarray) -> np.ndarray:
    """Return a mask through the same resize and crop as its image.

    Args:
        backbone: whose preprocessing it goes through.
        mask: int64 [H, W], class numbers 0..254, or 255 for what does not count; of its image's shape, since
            what a preprocessing does depends on it.

    Returns:
        int64 [h, w] at the size of the model's input; of classes with equal shares the lowest, and 255 where
        the preprocessing shows something other than the image (padding).

    Raises:
        ModelError: the preprocessing of this in-memory model is unknown.
    """
    present = np.unique(mask)
    black, white = (seen_grey(backbone, np.full(mask.shape, shade)) for shade in (False, True))
    if len(present) == 1:
        shares = white[None] - black
    else:
        shares = np.stack([seen_grey(backbone, mask == label) for label in present]) - black
    winner = present[shares.argmax(axis=0)]
    return np.where(white - black > (white - black).max() / 2, winner, IGNORE).astype(np.int64)


def outline_as_seen(backbone: Backbone, outline: np.ndarray) -> np.ndarray:
    """Return where a class is through the same resize and crop as its image, uint8 [h, w].

    Padding is outside: a map that shines there misses, and must not be excused.

    Args:
        backbone: whose preprocessing it goes through.
        outline: [H, W], 1 inside, 0 outside, 255 where nothing is known, which stays so.

    Raises:
        ModelError: the preprocessing of this in-memory model is unknown.
    """
    unknown = 2
    seen = mask_as_seen(backbone, np.where(outline == IGNORE, unknown, outline).astype(np.int64))
    return np.where(seen == unknown, IGNORE, seen == 1).astype(np.uint8)


def seen_grey(backbone: Backbone, brightness: np.ndarray) -> np.ndarray:
    """Return what the model's input holds for a grey image of brightness 0..1, [H, W] -> float [h, w]."""
    import PIL.Image

    image = PIL.Image.fromarray((255 * brightness).round().astype(np.uint8))
    shown: Tensor = backbone.preprocess(image)
    return shown.float().mean(dim=0).numpy()
