"""From an image to a model's input, without the model; and is this an input, what was made of the image?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ttr.errors import ImageError, ModelError

if TYPE_CHECKING:
    from PIL.Image import Image

#: Normalised pixels stay far below; raw ones reach 255.
MOST_NORMALISED = 100.0


def check_floats(images: Tensor) -> None:
    """Raise ImageError for raw integer pixels, which no model has seen."""
    if not images.is_floating_point():
        raise ImageError(
            f"got images of type {images.dtype}; needed normalised floats: "
            "give PIL images, or put them through the backbone's preprocess"
        )


@dataclass(frozen=True)
class Preprocess:
    """What turns a picture into a model's input. It holds nothing of the model, so processes can be sent it.

    Attributes:
        name: of the backbone, for messages.
        image_size: its (height, width) in pixels.
        channels: of its input.
        transform: PIL image -> float tensor [C, H, W], or None when unknown.
    """

    name: str
    image_size: tuple[int, int]
    channels: int
    transform: Callable[[Image], Tensor] | None = field(repr=False)

    def __call__(self, image: Image) -> Tensor:
        """Return the input, float [C, H, W]; refusals are those of ``Backbone.preprocess``."""
        from PIL import Image

        if not isinstance(image, Image.Image):
            raise ImageError(
                f"got {type(image).__name__}; needed a PIL image: ttr.datasets.registry.open_image(path) "
                "opens a file, PIL.Image.fromarray(pixels) makes one of an array"
            )
        if self.transform is None:
            raise ModelError(
                f"{self.name} came without preprocessing; pass adapt(model, preprocess=...) "
                "or give tensors instead of PIL images"
            )
        from ttr.datasets.folder import to_rgb
        from ttr.datasets.limits import check_resized

        check_resized("the image", *image.size, max(self.image_size))
        made = self.transform(to_rgb(image))
        check_made(made, self.name, self.channels)
        return made


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
    low, high = made.aminmax()  # of one pass; NaN where any value is
    if not (low.isfinite() and high.isfinite()):
        return "a tensor with NaN or infinite values"
    largest = max(-float(low), float(high))
    return f"a tensor with values up to {largest:g}" if largest > MOST_NORMALISED else ""
