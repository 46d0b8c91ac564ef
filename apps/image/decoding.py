"""A visitor's bytes become a picture: what is decoded, and its form on the way from one process to another.

Arrays travel as their bytes and all else as JSON, so that reading an answer runs no code of its sender.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ttr.datasets.dicom.elements import frames, starts_like_dicom
from ttr.datasets.dicom.radiograph import Radiograph, Window
from ttr.datasets.dicom.reading import read_dicom
from ttr.datasets.folder import to_rgb
from ttr.datasets.opening import opened, upright
from ttr.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

#: How an error calls the file.
NAME = "this file"
MOST_PIXELS = 40_000_000
#: Bytes of an answer's arrays: a picture, and a radiograph's values of eight bytes with its padding.
MOST_ANSWERED = MOST_PIXELS * 16
ARRAYS = ("values", "table", "padding")


@dataclass(frozen=True, eq=False)
class Decoded:
    """What a file holds.

    Attributes:
        kind: ``"DICOM"`` or the picture format (``"PNG"``).
        image: RGB, upright, square pixels.
        radiograph: the DICOM image behind it, or None.
    """

    kind: str
    image: Image
    radiograph: Radiograph | None = None


def decode(content: bytes) -> Decoded:
    """Decode the bytes of a file, judged by them alone.

    Raises:
        ImageError: no image, damaged, or larger than is safe.
    """
    name = Path(NAME)
    if starts_like_dicom(content[:132]):
        if (count := frames(content)) > 1:
            raise ImageError(
                f"{NAME} holds {count:,} frames; needed a single image: export the frame you mean"
            )
        found = read_dicom(name, content, most_pixels=MOST_PIXELS)
        return Decoded("DICOM", found.image(), found)
    with opened(name, content, MOST_PIXELS) as image:
        kind = "JPEG" if image.format == "MPO" else str(image.format)
        image.load()
        return Decoded(kind, to_rgb(upright(name, image), name))


def packed(found: Decoded) -> tuple[bytes, list[np.ndarray]]:
    """Return the head of an answer, as JSON, and the arrays that follow it."""
    arrays = {"image": np.asarray(found.image)}
    head: dict[str, Any] = {"kind": found.kind}
    if found.radiograph is not None:
        fields = {**vars(found.radiograph)}
        fields.pop("_first", None)
        arrays |= {name: value for name in ARRAYS if (value := fields.pop(name)) is not None}
        head["radiograph"] = {**fields, "windows": [vars(window) for window in found.radiograph.windows]}
    head["arrays"] = {name: [array.dtype.str, array.shape] for name, array in arrays.items()}
    return json.dumps(head).encode(), [np.ascontiguousarray(array) for array in arrays.values()]


def unpacked(head: dict[str, Any], read: Callable[[memoryview], None]) -> Decoded:
    """Return what an answer holds; ``read`` fills each of its arrays in turn.

    Raises:
        ValueError: the answer has not the form that :func:`packed` gives it.
    """
    import PIL.Image

    shapes = {name: (np.dtype(kind), tuple(shape)) for name, (kind, shape) in head["arrays"].items()}
    if any(kind.kind not in "biuf" for kind, _ in shapes.values()):
        raise ValueError("an array of something else than numbers")
    if sum(kind.itemsize * math.prod(shape) for kind, shape in shapes.values()) > MOST_ANSWERED:
        raise ValueError("more than was allowed to be decoded")
    arrays: dict[str, Any] = {}
    for name, (kind, shape) in shapes.items():
        arrays[name] = np.empty(shape, dtype=kind)
        read(memoryview(arrays[name]).cast("B"))
    image, fields = PIL.Image.fromarray(arrays.pop("image")), head.get("radiograph")
    if fields is None:
        return Decoded(head["kind"], image)
    fields |= {"windows": tuple(Window(**each) for each in fields["windows"])}
    tuples = ("size", "range", "notes", *(["spacing"] if fields["spacing"] else []))
    fields |= {name: tuple(fields[name]) for name in tuples}
    return Decoded(head["kind"], image, Radiograph(**fields, **arrays))
