"""From an image file's pixels to the model's input: named, recorded steps, then the backbone's own.

Each step is an albumentations transform without any randomness; the last one is the backbone's own resize,
crop and normalisation, untouched, since a library's resampling is part of how a model was trained
(albumentations' cubic resize has no antialiasing, and moves features). Optional steps come before it:

    fundus-crop  cut a fundus photograph to its disc, and pad it to a square
    ben-graham   fundus-crop, then 4 (image - its Gaussian average) + mid grey inside the disc: evens out
                 cameras and lighting (B. Graham, winner of the 2015 diabetic retinopathy competition)
    clahe        contrast limited adaptive histogram equalisation of the lightness (clip 2, 8 x 8 tiles)

What was done is part of every result and of the feature cache's key.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ttr.datasets.limits import check_size
from ttr.digests import sha256
from ttr.errors import ModelError, OptionError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ttr.backbones.base import Backbone

DISC_SHARE = 0.06
GRAHAM_SIGMA = 1 / 30
GRAHAM_RIM = 0.95


@dataclass(frozen=True)
class Preprocessing:
    """The steps of one run.

    Attributes:
        backbone: whose own preprocessing comes last.
        steps: names of the optional steps before it, in order.

    Raises:
        OptionError: there is no such step.
    """

    backbone: Backbone
    steps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def __call__(self, image: Image) -> Tensor:
        """Return the model's input for a PIL image, float [3, H, W]."""
        if not self.steps:
            return self.backbone.preprocess(image)
        import PIL.Image

        prepared = self._pipeline(image=np.asarray(image.convert("RGB")))["image"]
        return self.backbone.preprocess(PIL.Image.fromarray(prepared))

    @property
    def _pipeline(self) -> Any:
        """The optional steps as one transform, one a thread: it keeps state while it runs."""
        if not hasattr(self._of_this_thread, "pipeline"):
            composed = albumentations().Compose([STEPS[name]() for name in self.steps])
            self._of_this_thread.pipeline = composed
        return self._of_this_thread.pipeline

    @cached_property
    def _of_this_thread(self) -> threading.local:
        return threading.local()

    @cached_property
    def fingerprint(self) -> str:
        """What it does to two fixed images of noise, as 16 hex digits; equal for equal steps."""
        import PIL.Image

        shapes = ((97, 131, 3), (300, 240, 3))
        noise = (np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8) for shape in shapes)
        return sha256((self(PIL.Image.fromarray(pixels)).numpy().tobytes() for pixels in noise), 16)

    def to_json(self) -> dict[str, Any]:
        """Return what is recorded of it in a result."""
        own = re.sub(r" at 0x[0-9a-f]+", "", " ".join(repr(self.backbone.preprocess_image).split()))
        return {"steps": list(self.steps), "then": own, "fingerprint": self.fingerprint}


@dataclass(frozen=True)
class Stretch:
    """An image stretched to a size, nothing cropped, then normalised; processes can be sent it.

    Attributes:
        size: (height, width) in pixels.
        mean: of each channel of 0..1 pixels.
        deviation: their SD.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __call__(self, image: Image) -> Tensor:
        """Return ``(pixel - mean) / SD`` of an RGB image, bicubic with antialiasing, float32 [3, H, W]."""
        import torch
        from PIL.Image import Resampling

        pixels = np.asarray(image.resize(self.size[::-1], Resampling.BICUBIC), dtype=np.float32) / 255
        mean, deviation = (np.asarray(each, dtype=np.float32) for each in (self.mean, self.deviation))
        return torch.from_numpy(((pixels - mean) / deviation).transpose(2, 0, 1).copy())


def stretching(backbone: Backbone) -> Backbone:
    """Return a backbone that stretches images to its size instead of cropping them; all else is as it was.

    Raises:
        ModelError: its normalisation is not known, or its images have other than three channels.
    """
    if backbone.normalisation is None or backbone.channels != 3:
        raise ModelError(
            f"{backbone.name} came without a normalisation of RGB images; needed one to stretch images "
            "instead of cropping them: give a backbone with its preprocessing"
        )
    mean, deviation = (tuple(each.tolist()) for each in backbone.normalisation)
    return replace(backbone, preprocess_image=Stretch(backbone.image_size, mean, deviation))


def check_steps(names: Iterable[str]) -> None:
    """Raise OptionError for a name that no optional step has."""
    unknown = [name for name in names if name not in STEPS]
    if unknown:
        raise OptionError(f"preprocessing step {unknown[0]!r} is not known; needed {', '.join(STEPS)}")


def fundus_crop(pixels: np.ndarray) -> np.ndarray:
    """Cut uint8 [H, W, 3] to the box of what is brighter than 6 % of the brightest, padded to a square.

    An image without such a box (all dark) comes back whole, as a square.

    Raises:
        ImageError: the square would be too large.
    """
    brightness = pixels.max(axis=2)
    bright = brightness > DISC_SHARE * max(int(brightness.max()), 1)
    rows, columns = (np.flatnonzero(bright.any(axis=axis)) for axis in (1, 0))
    if rows.size:
        pixels = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = pixels.shape[:2]
    side = max(height, width)
    check_size("the image, padded to a square,", side, side)
    above, left = (side - height) // 2, (side - width) // 2
    return np.pad(pixels, ((above, side - height - above), (left, side - width - left), (0, 0)))


def ben_graham(pixels: np.ndarray) -> np.ndarray:
    """Return ``4 (image - average) + 128`` inside the disc of a cropped fundus, mid grey outside, uint8."""
    import cv2

    square = fundus_crop(pixels).astype(np.float32)
    side = square.shape[0]
    average = cv2.GaussianBlur(square, (0, 0), max(GRAHAM_SIGMA * side / 2, 0.5))
    y, x = (2 * np.mgrid[:side, :side] + 1) / side - 1
    disc = (np.hypot(x, y) <= GRAHAM_RIM)[..., None]
    return np.where(disc, 4 * (square - average) + 128, 128).clip(0, 255).astype(np.uint8)


def parse_steps(text: str) -> tuple[str, ...]:
    """Return the steps of a comma-separated list; an empty text has none."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _pixel_step(function: Callable[[np.ndarray], np.ndarray]) -> Any:
    def on_image(pixels: np.ndarray, **_: Any) -> np.ndarray:
        return function(pixels)

    return albumentations().Lambda(image=on_image, name=function.__name__, p=1)


def albumentations() -> Any:
    """Return the library, imported when it is first needed."""
    import albumentations as library

    return library


STEPS = {
    "fundus-crop": lambda: _pixel_step(fundus_crop),
    "ben-graham": lambda: _pixel_step(ben_graham),
    "clahe": lambda: albumentations().CLAHE(clip_limit=(2.0, 2.0), tile_grid_size=(8, 8), p=1),
}


def pixels_of(backbone: Backbone, batch: Tensor) -> np.ndarray:
    """Return what the model was given as uint8 [B, H, W, 3], its normalisation undone where it is known.

    Other than three channels are shown as their mean, in grey.
    """
    images = batch.float().cpu()
    if backbone.normalisation is not None:
        mean, deviation = backbone.normalisation
        images = images * deviation[:, None, None] + mean[:, None, None]
    else:
        low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
        images = (images - low) / (high - low).clamp(min=1e-12)
    if images.shape[1] != 3:
        images = images.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    return (255 * images.clamp(0, 1)).round().byte().permute(0, 2, 3, 1).numpy()
