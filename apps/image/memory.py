"""What the page keeps of its visitors' images between two clicks: those used last, as many as fit.

The case of one image takes about ten megabytes, that of a large one hundreds. Each session holds on to what
it was given (:class:`Kept`), and :class:`Memory` to nothing: it empties what was used longest ago.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from ttr.errors import OptionError

Value = TypeVar("Value")
MOST = 1_000_000_000
#: True of a session that never had an image, of one whose image was taken away, and of one that was let go.
NO_IMAGE = "the page holds no image for you now; open one in the tab Compare, or upload yours again"


class Kept(Generic[Value]):
    """A value of one session, until others need its room."""

    def __init__(self, memory: Memory, value: Value) -> None:
        self._memory = memory
        self._value: Value | None = value
        self.size = size_of(value)

    @property
    def seen(self) -> Value | None:
        """The value, or None once its room was needed; to look does not count as use."""
        return self._value

    def used(self) -> Value:
        """Return the value, which now is the one used last.

        Raises:
            OptionError: its room was needed.
        """
        value = self._value
        if value is None:
            raise OptionError(
                f"the page keeps the images used last, {self._memory.most / 1e6:,.0f} MB of them, and yours "
                "made room for others; upload it again"
            )
        self._memory.touch(self)
        return value

    def let_go(self) -> None:
        """Forget the value."""
        self._value = None


class Memory:
    """How much is kept, and whose turn it is to make room.

    Args:
        most: bytes of all values together; the value that came last stays, however large.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._order: dict[int, weakref.ref[Kept[Any]]] = {}
        self._lock = threading.Lock()

    def keep(self, value: Value) -> Kept[Value]:
        """Return a hold on a value; the least recently used others are let go until all fit."""
        kept = Kept(self, value)
        self.touch(kept)
        return kept

    def touch(self, kept: Kept[Any]) -> None:
        """Make a value the one used last, and let go of the others that do not fit any more."""
        with self._lock:
            self._order.pop(id(kept), None)
            held = {key: each for key, hold in self._order.items() if (each := hold()) is not None}
            room = self.most - kept.size - sum(each.size for each in held.values())
            for key in list(held):
                if room >= 0:
                    break
                gone = held.pop(key)
                gone.let_go()
                room += gone.size
            self._order = {key: weakref.ref(each) for key, each in (*held.items(), (id(kept), kept))}


def value_of(kept: Kept[Value] | None) -> Value:
    """Return what a session holds.

    Raises:
        OptionError: nothing, or no more.
    """
    if kept is None:
        raise OptionError(NO_IMAGE)
    return kept.used()


def seen(kept: Kept[Value] | None) -> Value | None:
    """Return what a session holds, or None; to look does not count as use."""
    return None if kept is None else kept.seen


def size_of(value: Any) -> int:
    """Return the bytes of all arrays and pictures that hang on a value, each once."""
    return sum({id(each): _bytes(each) for each in _heavy(value)}.values())


def _heavy(value: Any) -> Iterator[Any]:
    from PIL.Image import Image

    if isinstance(value, np.ndarray | Image):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _heavy(each)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _heavy(getattr(value, field.name))


def _bytes(heavy: Any) -> int:
    return (
        heavy.nbytes if isinstance(heavy, np.ndarray) else heavy.width * heavy.height * len(heavy.getbands())
    )
