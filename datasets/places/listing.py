"""What images lie somewhere: their names in an order that does not change, and where the bytes of each are.

A listing of ten million images takes about a gigabyte: names stand in one list, numbers in plain arrays, and
what is needed to read one image is made of them when it is asked for.
"""

from __future__ import annotations

import hashlib
import os
import struct
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

#: Size of a file that was not asked for.
UNKNOWN = -1
#: Start and file of an image that is a file of its own.
WHOLE = -1


@dataclass(frozen=True)
class Entry:
    """All that is needed to read one image, wherever it is sent to.

    Attributes:
        name: what results call it; unique in its listing.
        file: the file that holds it, as the file system calls it.
        start: of its bytes in that file; :data:`WHOLE`: the file is the image.
        size: of its bytes; :data:`UNKNOWN`: nobody asked.
        address: of the file system, such as ``s3://bucket/images``; "": this machine's own.
    """

    name: str
    file: str
    start: int = WHOLE
    size: int = UNKNOWN
    address: str = ""


@dataclass
class Listing:
    """The images of a place, in order.

    Attributes:
        root: folder that names are below, as the file system calls it.
        address: see :class:`Entry`.
        notes: what people should know of it, sentences.
    """

    root: str
    address: str = ""
    notes: tuple[str, ...] = ()
    _names: list[str] = field(default_factory=list, repr=False)
    _sizes: array[int] = field(default_factory=lambda: array("q"), repr=False)
    _starts: array[int] = field(default_factory=lambda: array("q"), repr=False)
    _held_by: array[int] = field(default_factory=lambda: array("l"), repr=False)
    _archives: list[str] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: str, size: int = UNKNOWN) -> None:
        """Add an image that is a file of its own, below the root."""
        self._put(name, size, WHOLE, WHOLE)

    def add_archive(self, file: str, members: Iterable[tuple[str, int, int]]) -> None:
        """Add the images in a file: the name, start and size of each."""
        self._archives.append(file)
        for name, start, size in members:
            self._put(name, size, start, len(self._archives) - 1)

    def _put(self, name: str, size: int, start: int, held_by: int) -> None:
        self._names.append(name)
        self._sizes.append(size)
        self._starts.append(start)
        self._held_by.append(held_by)

    def entry(self, place: int) -> Entry:
        """Return the image at a place of the order."""
        name, held_by = self._names[place], self._held_by[place]
        file = self._archives[held_by] if held_by != WHOLE else _below(self.root, name)
        return Entry(printable(name), file, self._starts[place], self._sizes[place], self.address)

    def entries(self, start: int, end: int) -> list[Entry]:
        """Return the images from one place of the order up to another."""
        return [self.entry(place) for place in range(start, min(end, len(self)))]

    @property
    def names_digest(self) -> str:
        """SHA-256 of the names in order, in hexadecimal: of each its length in bytes, and its bytes."""
        return names_digest(map(printable, self._names))

    @property
    def sizes_digest(self) -> str:
        """SHA-256 of the sizes in order, in hexadecimal, 64 bits each."""
        return hashlib.sha256(struct.pack(f"<{len(self)}q", *self._sizes)).hexdigest()


def _below(root: str, name: str) -> str:
    return f"{root.rstrip('/')}/{name}" if root else name


def printable(name: str) -> str:
    """Return a name as text of Unicode: bytes of a file's name that are none stand as ``\\xff``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace") if not name.isascii() else name


def names_digest(names: Iterable[str]) -> str:
    """Return the SHA-256 of names in order, see :attr:`Listing.names_digest`."""
    digest = hashlib.sha256()
    for name in names:
        content = name.encode()
        digest.update(struct.pack("<q", len(content)) + content)
    return digest.hexdigest()
