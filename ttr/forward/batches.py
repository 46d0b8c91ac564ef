"""Images in, batches out: tensors or PIL images, any number of them, never more than a batch at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Any

import torch
from torch import Tensor

from ttr.backbones.base import Backbone, check_floats
from ttr.checks import integer
from ttr.errors import ImageError


def batches(backbone: Backbone, images: Any, batch_size: int) -> Iterator[Tensor]:
    """Yield float batches [b, 3, H, W] with b <= ``batch_size``.

    Args:
        backbone: whose preprocessing PIL images go through.
        images: a tensor [N, 3, H, W], or an iterable of PIL images or tensors [3, H, W].
        batch_size: images a batch.

    Raises:
        ModelError: the model has no values.
        OptionError: ``batch_size`` < 1.
        ImageError: not an iterable, an item is neither an image nor a tensor [3, H, W], or sizes differ
            in a batch.
    """
    backbone.require_values()
    integer("batch_size", batch_size, 1)
    check_images(images)
    if isinstance(images, Tensor):
        yield from (part for part in images.split(int(batch_size)) if len(part))
        return
    pending: list[Tensor] = []
    for item in images:
        pending.append(_as_tensor(backbone, item))
        if len(pending) == batch_size:
            yield _stack(pending)
            pending = []
    if pending:
        yield _stack(pending)


def check_images(images: Any) -> None:
    """Raise ImageError unless ``images`` is a tensor [N, 3, H, W] or an iterable; no item is looked at."""
    if not isinstance(images, Iterable) or isinstance(images, str | bytes):
        raise ImageError(
            f"got {type(images).__name__} as images; needed a tensor [N, 3, H, W], or a list of PIL images "
            "or tensors [3, H, W] (also for a single one)"
        )
    if isinstance(images, Tensor) and (images.ndim != 4 or images.shape[1] != 3):
        raise ImageError(f"got a tensor of shape {tuple(images.shape)}; needed [N, 3, H, W]")


def count(images: Iterable[Any] | Tensor) -> int | None:
    """Return the number of images where it is known beforehand, else None."""
    return len(images) if isinstance(images, Sized) else None


def _as_tensor(backbone: Backbone, item: Any) -> Tensor:
    if isinstance(item, Tensor):
        if item.ndim != 3 or item.shape[0] != 3:
            raise ImageError(f"got a tensor of shape {tuple(item.shape)}; needed [3, H, W] for each image")
        check_floats(item)  # before a stack beside floats would turn them into some
        return item
    if not hasattr(item, "convert"):
        raise ImageError(f"got {type(item).__name__}; needed a PIL image or a tensor [3, H, W]")
    return backbone.preprocess(item)


def _stack(tensors: list[Tensor]) -> Tensor:
    sizes = {tuple(tensor.shape) for tensor in tensors}
    if len(sizes) > 1:
        raise ImageError(
            f"images of one batch differ in size ({sorted(sizes)}); resize them, or batch_size=1"
        )
    return torch.stack(tensors)
