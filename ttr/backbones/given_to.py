"""The global feature of a classifier that has no method for it: what its head is given."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ttr.hooks import Site, keep


@dataclass(frozen=True)
class GivenTo:
    """The model's own forward, and of it what reaches its head.

    Attributes:
        model: the whole model.
        head: the module in it that is given the feature.
        pooling: what the feature is, in a word.
    """

    model: nn.Module
    head: nn.Module
    pooling: str = "own forward"

    def __call__(self, images: Tensor) -> Tensor:
        """Return [B, D] of images [B, 3, H, W]."""
        with keep([Site(self.head, "input")]) as kept:
            self.model(images)
        return kept[0]
