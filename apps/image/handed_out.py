"""Pictures that a page fetches one by one: under a name that nobody can guess, by the visitor who has it.

Nothing is kept alive here: what its session lets go is not found any more.
"""

from __future__ import annotations

import re
import secrets
from typing import Protocol
from weakref import WeakValueDictionary

from ttr.apps.image.memory import Kept, seen
from ttr.apps.image.plate import reduced_by, shown_png, values_of
from ttr.apps.image.stack import Stack
from ttr.datasets.dicom.radiograph import Window

#: Where they are fetched, below the page.
PLACE = "pictures"


class Pictures(Protocol):
    """What has pictures by their names."""

    def png(self, name: str) -> bytes | None:
        """Return a picture as a PNG file; None where there is none of that name."""


class HandedOut:
    """What each visitor may fetch."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[tuple[str, str], Pictures] = WeakValueDictionary()

    def slices(self, visitor: str, kept: Kept[Stack], window: Window | None) -> tuple[object, str]:
        """Let a visitor fetch the slices of a stack; return what keeps them at hand, and where they lie."""
        pictures = SlicePictures(kept, window)
        return pictures, self.hand_out(visitor, pictures)

    def hand_out(self, visitor: str, pictures: Pictures) -> str:
        """Let a visitor fetch pictures; return where they lie, relative to the page, up to their names."""
        name = secrets.token_urlsafe(24)
        self._known[visitor, name] = pictures
        return f"{PLACE}/{name}/"

    def png(self, visitor: str, handed: str, name: str) -> bytes | None:
        """Return a picture as its visitor asks for it; None for anybody else, and once it is gone."""
        found = self._known.get((visitor, handed))
        return None if found is None else found.png(name)


class SlicePictures:
    """The slices of a stack: ``17`` is how one is shown, ``17v`` the values behind it."""

    def __init__(self, kept: Kept[Stack], window: Window | None) -> None:
        self._kept, self.window = kept, window

    def png(self, name: str) -> bytes | None:
        """Return a slice as a PNG file; None where there is none."""
        stack, asked = seen(self._kept), re.fullmatch(r"(\d{1,4})(v?)", name, re.ASCII)
        if stack is None or asked is None or int(asked[1]) >= len(stack.slices):
            return None
        picture = stack.picture(int(asked[1]), self.window)
        behind = picture.radiograph
        if not asked[2]:
            return shown_png(picture)
        if behind is None or behind.values.ndim == 3:
            return None
        return values_of(behind, self.window, reduced_by(picture.image.size)).png


class Thumbnails:
    """Small pictures by their numbers."""

    def __init__(self) -> None:
        self.by_number: dict[int, bytes] = {}

    def png(self, name: str) -> bytes | None:
        """Return the picture of a number as a PNG file; None where there is none."""
        return self.by_number.get(int(name)) if re.fullmatch(r"\d{1,6}", name, re.ASCII) else None
