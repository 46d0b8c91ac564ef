"""Are the pixels of a batch finite? Asked once a batch, and of a GPU without holding it up.

The question goes to the device ahead of the pass, and the answer is read when the pass was launched: by then
it is there, while the pass runs on. A CUDA graph that is being captured can answer nothing; it is not asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ttr.backbones.transfer import ask, wide
from ttr.errors import ImageError


def check_finite(images: Tensor) -> None:
    """Raise ImageError if ``images`` hold NaN or infinite values."""
    with finite_images(images):
        pass


@contextmanager
def finite_images(images: Tensor) -> Iterator[None]:
    """Let the block launch a pass of ``images``, and refuse them if they hold NaN or infinite values.

    On the CPU they are refused before the block.

    Raises:
        ImageError: they do.
    """
    if not images.numel() or not _answers(images):
        yield
        return
    extremes = ask(torch.stack(images.aminmax()).to(wide(images.device)))  # NaN where one is
    if not _is_late(images):
        _require(extremes())
    yield
    if _is_late(images):
        _require(extremes())


def _answers(images: Tensor) -> bool:
    """Return whether there are values, and the device can be waited for."""
    return not images.is_meta and not (images.is_cuda and torch.cuda.is_current_stream_capturing())


def _is_late(images: Tensor) -> bool:
    return images.device.type != "cpu"


def _require(extremes: np.ndarray) -> None:
    if not np.isfinite(extremes).all():
        raise not_finite()


def not_finite() -> ImageError:
    """Return the error for pixels that are no numbers."""
    return ImageError("images hold NaN or infinite values; needed finite pixels")
