"""Whole images: what stands before a backbone's own resize and crop, so that the crop has nothing to cut off.

    crop    nothing: the backbone's own preprocessing, most often the middle of the image
    pad     bars on two sides, to the shape of the model's input; the image keeps its shape
    resize  the image is stretched to the model's input, and loses its shape

The bars are no part of the image: masks are 255 there, and no keypoint can be matched to a patch of them. A
backbone whose own preprocessing cuts off a rim cuts off that of the padded or stretched image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ttr.checks import names
from ttr.datasets.limits import check_size

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ttr.backbones.base import Backbone

FITS = ("crop", "pad", "resize")
#: Colour of the bars: the mean of ImageNet, which normalisation makes about 0.
BARS = (124, 116, 104)


@dataclass(frozen=True)
class Fitted:
    """A preprocessing that is given the whole image in the shape of the model's input.

    Attributes:
        fit: ``pad`` or ``resize``.
        size: (height, width) of the model's input in pixels.
        transform: the backbone's own preprocessing.

    Raises:
        OptionError: another fit.
    """

    fit: str
    size: tuple[int, int]
    transform: Callable[[Image], Tensor]

    def __post_init__(self) -> None:
        names("fit", (self.fit,), FITS[1:])

    def __call__(self, image: Image) -> Tensor:
        """Return the model's input.

        Raises:
            ImageError: padding would make the image too large.
        """
        from PIL import Image as Pictures

        high, wide = self.size
        if self.fit == "resize":
            return self.transform(image.resize((wide, high), Pictures.Resampling.BICUBIC))
        width, height = (
            max(image.width, -(-image.height * wide // high)),
            max(image.height, -(-image.width * high // wide)),
        )
        check_size("the image, padded to the shape of the model's input,", width, height)
        padded = Pictures.new(image.mode, (width, height), BARS if image.mode == "RGB" else BARS[0])
        padded.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
        return self.transform(padded)


def with_fit(backbone: Backbone, fit: str) -> Backbone:
    """Return a backbone with whole images before its own preprocessing.

    Args:
        backbone: as it is.
        fit: of :data:`FITS`.

    Raises:
        OptionError: no such fit.
        ModelError: the preprocessing of this in-memory model is unknown.
    """
    from PIL import Image as Pictures

    names("fit", (fit,), FITS)
    if fit == "crop":
        return backbone
    # It refuses a model that came without preprocessing.
    backbone.preprocess(Pictures.new("RGB", backbone.image_size[::-1]))
    assert backbone.preprocess_image is not None
    return replace(backbone, preprocess_image=Fitted(fit, backbone.image_size, backbone.preprocess_image))
