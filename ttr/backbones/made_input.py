"""Is this an input, what a preprocessing made of an image?"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ttr.errors import ImageError, ModelError

#: Normalised pixels stay far below; raw ones reach 255.
MOST_NORMALISED = 100.0


def check_floats(images: Tensor) -> None:
    """Raise ImageError for raw integer pixels, which no model has seen."""
    if not images.is_floating_point():
        raise ImageError(
            f"got images of type {images.dtype}; needed normalised floats: "
            "give PIL images, or put them through the backbone's preprocess"
        )


def check_made(made: Any, model: str, channels: int) -> None:
    """Raise ModelError, by type, shape or range, unless ``made`` is a normalised float tensor [C, H, W]."""
    found = _wrong(made, channels)
    if found:
        raise ModelError(
            f"the preprocessing of {model} makes {found} of an image; needed a normalised float tensor "
            f"[{channels}, H, W]: mend the function that was given as preprocess=, or give an image "
            "processor of transformers or a transform of timm as it is"
        )


def _wrong(made: Any, channels: int) -> str:
    """Return what it is instead, or ""."""
    if not isinstance(made, Tensor):
        shape = f" of shape {tuple(made.shape)}" if hasattr(made, "shape") else ""
        return f"a {type(made).__name__}{shape}"
    if made.ndim != 3 or made.shape[0] != channels or not made.numel():
        return f"a tensor of shape {list(made.shape)}"
    if not made.is_floating_point():
        return f"a tensor of type {made.dtype}"
    if not made.isfinite().all():
        return "a tensor with NaN or infinite values"
    largest = float(made.abs().max())
    return f"a tensor with values up to {largest:g}" if largest > MOST_NORMALISED else ""
