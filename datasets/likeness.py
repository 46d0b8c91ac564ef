"""Find images that are one picture saved twice: a perceptual hash proposes pairs, their fine detail decides.

Medical images of one device all look alike: the same disc, the same dark border. A hash sees mostly that,
so it only proposes: all pairs whose 256-bit phash (library imagehash, hash size 16) differ in at most 40
bits. Then the 64 x 64 thumbnails of a pair are compared by the correlation of what is left when their blur
(Gaussian, 2 px) is taken away: border, disc and lighting go; vessels, bones and edges stay.

The numbers come from ``python -m tests.benchmarks near-duplicates``: 260 edited copies of the two samples and
of 24 phantoms, 210 pairs of simulated patients before one device, and all pairs of the 540 phantom images.

- phash 16 within 40 bits proposes every copy (the farthest has 32) and no simulated patient. Within 12 bits
  it would miss a fifth of the copies. phash 8 needs 8 bits for all of them, where it takes ten times as many
  phantom pairs; dhash needs 6, where it takes two thirds of the simulated patients.
- Correlation >= 0.95 is one picture: every copy in another encoding, size, brightness or contrast, and 21 of
  26 turned by 1 degree; no pair of phantoms (highest of three seeds 0.944), no simulated patient (0.507).
- From 0.6 to 0.95 they look alike: most copies cropped by 2 % (0.665 and up) lie there, and so do different
  images made from few parameters (99 pairs of phantoms). That is for a person to judge, and condemns no set.

A mirrored image is another image: left and right matter in medicine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

DISTANCE = 40
SAME = 0.95
ALIKE = 0.6
SIDE = 64
BLUR = 2.0
BLOCK = 1024


class Pair(NamedTuple):
    """Two images, by their places, with their hashes' distance in bits and their detail's correlation."""

    first: int
    second: int
    distance: int
    correlation: float


def thumbnail(image: Image) -> np.ndarray:
    """Return an image as uint8 [64, 64], grey, its sides scaled each on its own."""
    import PIL.Image

    return np.asarray(image.convert("L").resize((SIDE, SIDE), PIL.Image.Resampling.LANCZOS))


def perceptual_hash(thumb: np.ndarray) -> np.ndarray:
    """Return the phash of a thumbnail, bool [256]."""
    import imagehash
    import PIL.Image

    return imagehash.phash(PIL.Image.fromarray(thumb), hash_size=16).hash.ravel()


def near_pairs(
    thumbs: Sequence[np.ndarray], *, distance: int = DISTANCE, correlation: float = ALIKE
) -> Iterator[Pair]:
    """Yield the pairs of thumbnails whose hashes and details agree, in order of their places.

    Work grows with the square of the number of images, as blocks of a matrix product; memory with the number
    of images, 1,024 distances each. An image without any detail is like no other.

    Args:
        thumbs: uint8 [64, 64] each.
        distance: bits in which the hashes may differ, 0..256.
        correlation: least correlation of the details, -1..1.
    """
    if len(thumbs) < 2:
        return
    signs = np.stack([perceptual_hash(thumb) for thumb in thumbs]).astype(np.float32) * 2 - 1
    for start in range(0, len(signs), BLOCK):
        # Signs that agree count +1 and others -1, so bits - 2 * distance is a product.
        distances = (signs.shape[1] - signs[start : start + BLOCK] @ signs[start:].T) / 2
        rows, columns = np.nonzero(np.triu(distances <= distance, k=1))
        for part in range(0, len(rows), BLOCK):
            here = slice(part, part + BLOCK)
            first, second = rows[here] + start, columns[here] + start
            agreement = (_details(thumbs, first) * _details(thumbs, second)).sum(axis=1)
            for place in np.flatnonzero(agreement >= correlation):
                i, j = int(first[place]), int(second[place])
                bits = round(float(distances[i - start, j - start]))
                yield Pair(i, j, bits, min(1.0, float(agreement[place])))


def _details(thumbs: Sequence[np.ndarray], places: np.ndarray) -> np.ndarray:
    """Return what blurring takes away, of length 1 each, float64 [n, 4096] (zeros where there is nothing)."""
    from scipy.ndimage import gaussian_filter

    pixels = np.stack([thumbs[place] for place in places]).astype(np.float64)
    fine = (pixels - gaussian_filter(pixels, (0, BLUR, BLUR))).reshape(len(pixels), -1)
    fine -= fine.mean(axis=1, keepdims=True)
    length = np.linalg.norm(fine, axis=1, keepdims=True)
    return np.divide(fine, length, out=np.zeros_like(fine), where=length > 1e-6)
