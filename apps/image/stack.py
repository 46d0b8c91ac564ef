"""The images of one series as a stack: all decoded, bounded, each a picture at once. It has no widgets.

The cases of the slices that were looked at last stay at hand, as far as the page's memory has room.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ttr.apps.image.decoding import Decoded
from ttr.apps.image.intake import MIN_SIDE, MOST_OF_STACK, Picture, SliceOf, notes_of
from ttr.apps.image.memory import Kept, Memory, seen, value_of
from ttr.apps.image.readers import PLACES, READERS
from ttr.apps.image.series import Series, Source, check_extent
from ttr.apps.image.uploads import content_of
from ttr.datasets.dicom.origin import Origin
from ttr.datasets.dicom.radiograph import Radiograph, Window
from ttr.digests import sha256
from ttr.errors import ImageError
from ttr.wording import shortened

if TYPE_CHECKING:
    from ttr.apps.image.case import Case

#: Bytes of a stack's values, and cases that one keeps.
MOST_BYTES, MOST_CASES = 400_000_000, 24


@dataclass(frozen=True, eq=False)
class Slice:
    """One image of a stack.

    Attributes:
        name: of its file, and of the frame where that holds several: ``cine.dcm#3``.
        frame: of the file, from 1 on; None: the file holds one image.
        sha256: of the file's bytes.
        kind: ``"DICOM"`` or the picture format.
        radiograph: the DICOM image, or None.
        pixels: of any other, uint8 [H, W] or [H, W, 3], or None.
        origin: study, series and instance, or None.
    """

    name: str
    frame: int | None
    sha256: str
    kind: str
    radiograph: Radiograph | None
    pixels: np.ndarray | None = field(default=None, repr=False)
    origin: Origin | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height once its pixels are square."""
        if self.radiograph is not None:
            return self.radiograph.size
        assert self.pixels is not None
        return self.pixels.shape[1], self.pixels.shape[0]


@dataclass(frozen=True, eq=False)
class Stack:
    """A series, decoded.

    Attributes:
        identity: of this opening of it.
        slices: in their order, all of one size.
        order: how that order was found, in words.
        first: which of them is shown first.
        rate: frames a second that a file recommends, or None.
    """

    identity: str
    slices: tuple[Slice, ...]
    order: str
    first: int
    rate: float | None

    def part(self, index: int) -> SliceOf:
        """Return which slice that is."""
        return SliceOf(self.identity, index, len(self.slices), self.slices[index].frame)

    def picture(self, index: int, window: Window | None = None) -> Picture:
        """Return a slice as a picture, in a window of its own file or any other (None: its first)."""
        found, part = self.slices[index], self.part(index)
        if found.radiograph is None:
            assert found.pixels is not None
            image = _rgb(found.pixels)
            return Picture(image, found.kind, found.sha256, name=found.name, slice=part)
        behind = replace(found.radiograph)  # a copy: what it draws of itself is not kept with the stack
        return Picture(
            behind.image(window),
            found.kind,
            found.sha256,
            notes_of(behind, window),
            behind,
            window,
            found.name,
            part,
            found.origin,
        )


def read_stack(series: Series) -> Stack:
    """Decode the images of a series, two files at a time.

    Raises:
        ImageError: one of them cannot be read, is of another size, or all are more than is safe.
    """
    check_extent(series)
    with ThreadPoolExecutor(PLACES) as pool:
        by_file = list(pool.map(_slices, series.sources))
    slices = tuple(by_file[file][frame - 1] for file, frame in series.images)
    _check_alike(slices)
    held = sum(_size(each) for each in slices)
    if held > MOST_BYTES:
        raise ImageError(
            f"this series takes {held / 1e6:,.0f} MB in memory; needed {MOST_BYTES / 1e6:,.0f} MB at most: "
            "give a part of it"
        )
    first = len(slices) // 2 if series.in_space else 0
    return Stack(secrets.token_hex(8), slices, series.order, first, series.rate)


class OpenStack:
    """A stack that a session has open, and the cases of its slices that were looked at last.

    Args:
        memory: what keeps it, and the cases.
        stack: what is open.
        visitor: whose it is.
    """

    def __init__(self, memory: Memory, stack: Stack, visitor: str) -> None:
        self.kept: Kept[Stack] = memory.keep(stack)
        self.identity, self.visitor = stack.identity, visitor
        self._memory = memory
        self._choice: object = None
        self._cases: OrderedDict[Hashable, Kept[Case]] = OrderedDict()
        self._handed: tuple[Window | None, object, str] | None = None

    @property
    def stack(self) -> Stack:
        """The stack; OptionError once its room was needed."""
        return value_of(self.kept)

    def case(self, picture: Picture, choice: object, make: Callable[[], Case]) -> Kept[Case]:
        """Return the case of a slice in its window, made where it is not at hand.

        ``choice``: the model and neurons; cases of any other are let go.
        """
        if choice is not self._choice:
            self._cases.clear()
            self._choice = choice
        asked = None if picture.slice is None else picture.slice.index, picture.window
        kept = self._cases.pop(asked, None)
        if kept is None or seen(kept) is None:
            kept = self._memory.keep(make())
        self._cases[asked] = kept
        while len(self._cases) > MOST_CASES:
            self._cases.popitem(last=False)
        return kept

    def place(
        self, window: Window | None, hand_out: Callable[[Kept[Stack], Window | None], tuple[object, str]]
    ) -> tuple[str, bool]:
        """Return where the slices are fetched in a window, and whether that is a new place.

        ``hand_out``: what makes one. Of the former nothing is found any more.
        """
        if self._handed is not None and self._handed[0] == window:
            return self._handed[2], False
        self._handed = window, *hand_out(self.kept, window)
        return self._handed[2], True

    def close(self) -> None:
        """Let go of all of it: its file was taken away, or another one was given."""
        self._cases.clear()
        self._handed = None
        self.kept.let_go()


def _slices(source: Source) -> list[Slice]:
    content = content_of(source.path, MOST_OF_STACK, "a file of this series")
    count, digest = source.survey.member.frames, sha256([content])
    try:
        found = READERS.frames(content, count)
    except ImageError as error:
        raise ImageError(f"{shortened(source.name)} of this series cannot be opened: {error}") from None
    several = count > 1
    return [
        _slice(each, f"{source.name}#{n}" if several else source.name, n if several else None, digest)
        for n, each in enumerate(found, start=1)
    ]


def _slice(found: Decoded, name: str, frame: int | None, digest: str) -> Slice:
    if found.radiograph is not None:
        return Slice(name, frame, digest, found.kind, found.radiograph, origin=found.origin)
    pixels = np.asarray(found.image)
    is_grey = bool((pixels == pixels[..., :1]).all())
    return Slice(name, frame, digest, found.kind, None, pixels[..., 0].copy() if is_grey else pixels)


def _check_alike(slices: tuple[Slice, ...]) -> None:
    width, height = size = slices[0].size
    if min(size) < MIN_SIDE:
        raise ImageError(
            f"these images have {width} × {height} pixels; needed {MIN_SIDE} on each side at least"
        )
    other = next((each for each in slices if each.size != size), None)
    if other is not None:
        raise ImageError(
            f"{shortened(other.name)} has {other.size[0]} × {other.size[1]} pixels once it is upright and to "
            f"scale, and the first of its series {width} × {height}; give it alone"
        )


def _size(found: Slice) -> int:
    from ttr.apps.image.memory import size_of

    return size_of(found)


def _rgb(pixels: np.ndarray) -> Any:
    from PIL import Image

    return Image.fromarray(pixels).convert("RGB")
