"""Preprocessing by an image processor of transformers, from a directory that describes it or given as it is.

The library picks the processor that works on torchvision where that is installed, else the one on PIL.
Another image size scales what the processor resizes to and what it crops by the same factor, so that the
share of the picture that is cut away stays what it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL.Image import Image, new
from torch import Tensor

from ttr.backbones.hub import PROCESSOR_FILES
from ttr.datasets.limits import check_resized
from ttr.errors import ModelError

#: Pixels of a side that a directory may ask for, at most.
MOST_SIDE = 8192


@dataclass(frozen=True)
class Preprocess:
    """PIL image -> float tensor [3, H, W].

    Attributes:
        processor: a transformers image processor.
        size: (height, width) in pixels that it makes.
        sizes: sizes to use in place of the processor's own.
        largest: pixels of the longest side that the image is resized to or cut to.
    """

    processor: Any
    size: tuple[int, int]
    sizes: dict[str, dict[str, int]]
    largest: int

    def __call__(self, image: Image) -> Tensor:
        """Return the model's input for one RGB image.

        Raises:
            ImageError: resizing would make too many pixels of it.
        """
        check_resized("the image", *image.size, self.largest)
        return self.processor(image, return_tensors="pt", **self.sizes)["pixel_values"][0]


def read_processor(source: Path, image_size: int | None) -> Preprocess | None:
    """Return the preprocessing of a directory, None where there is none.

    A processor whose output has no fixed size (it neither crops nor resizes to one) counts as none.

    Raises:
        ModelError: its description cannot be read, or asks for code that a repository brings along.
    """
    from transformers import AutoImageProcessor

    if not any((source / name).is_file() for name in PROCESSOR_FILES):
        return None
    try:
        processor = AutoImageProcessor.from_pretrained(source, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise _useless(source, f"could not be read ({reason})") from error
    sizes = _sizes(processor)
    size = _final(sizes)
    if size is None:
        return None
    largest = _largest(source, sizes)
    own = Preprocess(processor, size, {}, largest)
    _try(source, own)
    if image_size is None:
        return own
    factor = image_size / min(size)
    scaled = {key: {side: round(px * factor) for side, px in value.items()} for key, value in sizes.items()}
    scaled[list(sizes)[-1]] = {"height": image_size, "width": image_size}
    return Preprocess(processor, (image_size, image_size), scaled, round(largest * max(factor, 1)))


def is_processor(given: Any) -> bool:
    """Return whether this is an image processor of transformers, or a processor that holds one."""
    return callable(given) and hasattr(given, "model_input_names")


def given_processor(processor: Any) -> Preprocess:
    """Return the preprocessing that an image processor in memory does.

    Raises:
        ModelError: it makes no single image of fixed size of an image.
    """
    processor = getattr(processor, "image_processor", processor)
    sizes = _sizes(processor)
    size = _final(sizes)
    if size is None:
        raise ModelError(
            f"image processor {type(processor).__name__} makes no image of a fixed size; give it a size with "
            "height and width if it takes one, or give a function, PIL image -> tensor [3, H, W]"
        )
    return Preprocess(processor, size, {}, max(px for each in sizes.values() for px in each.values() if px))


def _sizes(processor: Any) -> dict[str, dict[str, int]]:
    """Return what it resizes to and what it crops to, as far as it does, the last step last."""
    steps = {"size": "do_resize", "crop_size": "do_center_crop"}
    return {
        key: dict(getattr(processor, key, None) or {})
        for key, done in steps.items()
        if getattr(processor, done, False)
    }


def _final(sizes: dict[str, dict[str, int]]) -> tuple[int, int] | None:
    """Return the (height, width) that comes out, or None where it depends on the image."""
    final = list(sizes.values())[-1] if sizes else {}
    return (final["height"], final["width"]) if {"height", "width"} <= final.keys() else None


def _largest(source: Path, sizes: dict[str, dict[str, int]]) -> int:
    given = [px for each in sizes.values() for px in each.values() if px is not None]
    if wrong := [px for px in given if type(px) is not int or not 0 < px <= MOST_SIDE]:
        raise _useless(source, f"makes a side of {wrong[0]!r} pixels (needed 1 to {MOST_SIDE:,})")
    return max(given)


def _try(source: Path, preprocess: Preprocess) -> None:
    """Raise ModelError unless a grey picture becomes a model's input."""
    try:
        made = preprocess(new("RGB", preprocess.size[::-1], (128, 128, 128)))
    except Exception as error:  # of the library, whatever its description leads to
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise _useless(source, f"cannot be used ({reason})") from error
    if made.shape != (3, *preprocess.size) or not made.is_floating_point() or not made.isfinite().all():
        raise _useless(source, "does not make finite numbers of three colours of a picture")


def _useless(source: Path, why: str) -> ModelError:
    return ModelError(
        f"the image processor of {source} {why}; mend its {PROCESSOR_FILES[0]}, or take it away and give "
        "tensors instead of PIL images"
    )
