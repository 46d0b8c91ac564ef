"""Pairs of images whose keypoints somebody annotated, as a batch that correspondence can be measured on.

Points and boxes follow their images through the backbone's resize and crop. An image's place in the input
depends on its size alone, so each size is asked for once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.datasets.layouts.spair import KeypointPair
from ttr.datasets.registry import called, open_image
from ttr.digests import sha256
from ttr.errors import ImageError
from ttr.evaluate.keypoints import placement
from ttr.studies.ablate.measures import Pairs


@dataclass(frozen=True, eq=False)
class AnnotatedPairs:
    """Reads pairs for one backbone.

    Attributes:
        backbone: whose input they become.
        sizes: (height, width) of the images of each pair that was read, by name.
        places: the map from an image of some size into the input, [2, 3].
    """

    backbone: Backbone
    sizes: dict[str, tuple[tuple[int, int], tuple[int, int]]] = field(default_factory=dict)
    places: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)

    def content_hash(self, pair: KeypointPair) -> str:
        """Return the hash of both images, the annotation, and what its draws are seeded with."""
        try:
            images = pair.source.read_bytes() + pair.target.read_bytes()
        except OSError as error:
            raise ImageError(f"an image of pair {pair.name} cannot be read ({error.strerror})") from None
        points = (pair.source_points, pair.target_points, pair.target_box)
        return sha256([images, pair.draw_name, *(each.tobytes() for each in points)])

    def read(self, pair: KeypointPair) -> Tensor:
        """Return both images as the model sees them, [2, 3, H, W]."""
        with called(f"the source of {pair.name}", pair.source):
            source = open_image(pair.source)
        with called(f"the target of {pair.name}", pair.target):
            target = open_image(pair.target)
        self.sizes[pair.name] = (source.height, source.width), (target.height, target.width)
        return torch.stack([self.backbone.preprocess(image) for image in (source, target)])

    def batch(self, pairs: Sequence[KeypointPair], images: Tensor) -> Pairs:
        """Return the counterparts of a batch [B, 2, 3, H, W], and the points of both, K at most."""
        most = max(len(pair.source_points) for pair in pairs)
        source, target = (np.zeros((len(pairs), most, 2)) for _ in range(2))
        valid = np.zeros((len(pairs), most), dtype=bool)
        extent = np.zeros((len(pairs), 2))
        candidates = []
        for index, pair in enumerate(pairs):
            of_source, of_target = self.sizes[pair.name]
            count = len(pair.source_points)
            source[index, :count] = self._seen(of_source, pair.source_points)
            target[index, :count] = self._seen(of_target, pair.target_points)
            valid[index, :count] = True
            corners = self._seen(of_target, pair.target_box.reshape(2, 2))
            extent[index] = corners[1] - corners[0]
            candidates.append(self._shown(of_target))
        return Pairs(images[:, 1], source, target, valid, extent, np.stack(candidates))

    def _shown(self, size: tuple[int, int]) -> np.ndarray:
        """Return which patches show any of an image of some size, bool [P]; bars beside it are none of it."""
        first, last = self._seen(size, np.array([[0, 0], [size[1] - 1, size[0] - 1]], dtype=np.float64))
        (rows, columns), (high, wide) = self.backbone.layout.grid, self.backbone.patch_size
        starts = [np.arange(count) * side for count, side in ((columns, wide), (rows, high))]
        across, down = (
            (start < last[axis] + 0.5) & (start + side > first[axis] + 0.5)
            for axis, (start, side) in enumerate(zip(starts, (wide, high), strict=True))
        )
        return (down[:, None] & across).ravel()

    def _seen(self, size: tuple[int, int], points: np.ndarray) -> np.ndarray:
        if size not in self.places:
            self.places[size] = placement(self.backbone, size)
        matrix = self.places[size]
        return points @ matrix[:, :2].T + matrix[:, 2]
