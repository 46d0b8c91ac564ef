"""Images that are nearly the same picture as one before: they show nothing new.

An image is known by its pixels, on a thumbnail, and not by its neurons: in different images the same fire.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

#: Sides of the thumbnail, by how many of its SD two may differ at most (and by how much, where both are
#: flat), and how many are remembered: with as many different images a double decides nothing.
THUMBNAIL, ALIKE, FLAT, REMEMBERED = 8, 0.1, 1e-3, 64


def thumbnails(images: Tensor) -> Tensor:
    """Return images [B, C, H, W] as 8 x 8 grey values, their mean taken away, float32 [B, 64]."""
    grey = adaptive_avg_pool2d(images.float().mean(dim=1), THUMBNAIL).flatten(1)
    return grey - grey.mean(dim=1, keepdim=True)


def alike(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return of each of ``others`` [K, 64] whether it shows the picture ``one`` [64], brighter or noisier."""
    spread = np.maximum(one.std(ddof=1), others.std(axis=1, ddof=1))
    return np.abs(others - one).max(axis=1) <= ALIKE * spread + FLAT


class Pictures:
    """The different pictures that were seen, as thumbnails."""

    def __init__(self) -> None:
        self.seen = np.empty((0, THUMBNAIL**2), np.float32)

    @property
    def full(self) -> bool:
        """Whether as many are remembered as ever will be."""
        return len(self.seen) >= REMEMBERED

    def is_new(self, thumbnail: np.ndarray) -> bool:
        """Return whether this picture [64] is no double of one before, and remember it."""
        if alike(thumbnail, self.seen).any():
            return False
        if not self.full:
            self.seen = np.concatenate([self.seen, thumbnail[None]])
        return True


class JudgedPictures(Pictures):
    """Pictures that keep, of each they were asked for, the thumbnail and the answer."""

    def __init__(self, before: Pictures) -> None:
        self.seen = before.seen
        self.asked: list[np.ndarray] = []
        self.answers: list[bool] = []

    def is_new(self, thumbnail: np.ndarray) -> bool:
        """As :meth:`Pictures.is_new`, and keep both."""
        self.asked.append(thumbnail.copy())  # of a batch that need not stay
        self.answers.append(super().is_new(thumbnail))
        return self.answers[-1]
