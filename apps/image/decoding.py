"""A visitor's bytes become a picture: what is decoded, and its form on the way from one process to another.

Arrays travel as their bytes and all else as JSON, so that reading an answer runs no code of its sender.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ttr.datasets.dicom.elements import frames, starts_like_dicom, undeflated
from ttr.datasets.dicom.frames import single_frame
from ttr.datasets.dicom.origin import Origin, origin_in
from ttr.datasets.dicom.radiograph import Radiograph, Window
from ttr.datasets.dicom.reading import read_dicom
from ttr.datasets.dicom.series import Member, member
from ttr.datasets.folder import to_rgb
from ttr.datasets.limits import MOST_BYTES_A_PIXEL
from ttr.datasets.opening import opened, pages_of, upright
from ttr.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

#: How an error calls the file.
NAME = "this file"
MOST_PIXELS = 40_000_000
#: Slices of a stack, and pixels of all of them together.
MOST_SLICES, MOST_STACK_PIXELS = 500, 150_000_000
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
        origin: the study, series and instance that it is of, without its patient; None where it names none.
    """

    kind: str
    image: Image
    radiograph: Radiograph | None = None
    origin: Origin | None = None


def decode(content: bytes) -> Decoded:
    """Decode the bytes of a file that holds a single image, judged by them alone.

    Raises:
        ImageError: no image, damaged, several frames, or larger than is safe.
    """
    if starts_like_dicom(content[:132]):
        if (count := frames(content)) > 1:
            raise ImageError(
                f"{NAME} holds {count:,} frames; needed a single image: open it in the tab Compare, where "
                "they are a stack, or give it to ttr compare, which takes each frame"
            )
        return _radiograph(content)
    return _picture(content)


def decode_frames(content: bytes, count: int) -> Iterator[Decoded]:
    """Yield the first ``count`` frames of a file as :func:`decode_frame` returns each."""
    content = undeflated(NAME, content, MOST_BYTES_A_PIXEL * MOST_STACK_PIXELS)
    for frame in range(1, count + 1):
        yield decode_frame(content, frame)


def decode_frame(content: bytes, frame: int) -> Decoded:
    """Decode one frame or page of a file, counted from 1, its values as small as they are exact.

    Raises:
        ImageError: no such frame; else as :func:`decode`.
    """
    if not starts_like_dicom(content[:132]):
        return _picture(content, frame)
    several = frames(content) > 1
    found = _radiograph(single_frame(NAME, content, frame) if several else content)
    found = replace(found, origin=_origin(content, frame if several else None))
    behind = found.radiograph
    assert behind is not None
    return replace(found, radiograph=replace(behind, values=compact(behind.values)))


@dataclass(frozen=True)
class Survey:
    """What a file is before anything of it is decoded.

    Attributes:
        kind: ``"DICOM"`` or the picture format.
        member: its place in its series; of a picture its size and pages alone.
    """

    kind: str
    member: Member


def survey(content: bytes) -> Survey:
    """Return what a file is; its pixels are not looked at.

    Raises:
        ImageError: no image, more frames than a stack may have, or larger than is safe.
    """
    name = Path(NAME)
    if starts_like_dicom(content[:132]):
        return Survey("DICOM", member(name, content, MOST_SLICES))
    pages = pages_of(content)
    if pages > MOST_SLICES:
        raise ImageError(f"{NAME} holds {pages:,} pages; needed {MOST_SLICES} at most: save fewer")
    with opened(name, content, MOST_PIXELS, page=1 if pages > 1 else None) as image:
        size = image.size
        return Survey(_kind(image), Member("", None, "", size, 1.0, pages))


def survey_from(head: dict[str, Any], read: Any = None) -> Survey:
    """Return a survey from the JSON values that one becomes.

    Raises:
        ValueError: the values have not its form.
    """
    try:
        found = dict(head["member"])
        angles = found["orientation"]
        found |= {
            "size": tuple(found["size"]),
            "orientation": None if angles is None else tuple(angles),
            "positions": tuple(map(tuple, found["positions"])),
        }
        return Survey(str(head["kind"]), Member(**found))
    except (KeyError, TypeError) as error:
        raise ValueError("a survey of another form") from error


def compact(values: np.ndarray) -> np.ndarray:
    """Return the same numbers in two or four bytes each where these hold them exactly."""
    if values.dtype.kind == "f" and not (values == np.rint(values)).all():
        return values
    low, high = values.min(), values.max()
    for kind in (np.uint8, np.int16, np.uint16, np.int32):
        limits = np.iinfo(kind)
        if np.dtype(kind).itemsize < values.itemsize and limits.min <= low <= high <= limits.max:
            return values.astype(kind)
    return values


def _radiograph(content: bytes) -> Decoded:
    found = read_dicom(Path(NAME), content, most_pixels=MOST_PIXELS)
    return Decoded("DICOM", found.image(), found, _origin(content))


def _origin(content: bytes, frame: int | None = None) -> Origin | None:
    try:
        return origin_in(Path(NAME), content, frame)
    except ImageError:
        return None  # it is looked at all the same; only nothing can be filed beside it


def _picture(content: bytes, page: int | None = None) -> Decoded:
    name = Path(NAME)
    with opened(name, content, MOST_PIXELS, page) as image:
        kind = _kind(image)
        image.load()
        return Decoded(kind, to_rgb(upright(name, image), name))


def _kind(image: Image) -> str:
    return "JPEG" if image.format == "MPO" else str(image.format)


def packed(found: Decoded) -> tuple[bytes, list[np.ndarray]]:
    """Return the head of an answer, as JSON, and the arrays that follow it."""
    arrays = {"image": np.asarray(found.image)}
    head: dict[str, Any] = {"kind": found.kind}
    if found.radiograph is not None:
        fields = {**vars(found.radiograph)}
        fields.pop("_first", None)
        arrays |= {name: value for name in ARRAYS if (value := fields.pop(name)) is not None}
        head["radiograph"] = {**fields, "windows": [vars(window) for window in found.radiograph.windows]}
    if found.origin is not None:
        head["origin"] = {**vars(found.origin), "patient": {}}
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
    said = head.get("origin")
    origin = None if said is None else Origin(**{name: _tupled(value) for name, value in said.items()})
    return Decoded(head["kind"], image, Radiograph(**fields, **arrays), origin)


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
