"""What a TIFF file says of itself, read without decoding anything: its pages, and how much its tags claim.

EXIF is a TIFF directory too. A library that reads one follows each tag to its value, and many tags may point
at the same bytes: so a small file fills any memory. Values of an honest file lie beside each other.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ttr.errors import ImageError

MARKS = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")
EXIF = b"Exif\0\0"
#: Bytes of a value, by the number of its type.
SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
SUBFILE, TILE_WIDTH, TILE_LENGTH, SAMPLE_FORMAT = 254, 322, 323, 339
COMPLEX = (5, 6)
REDUCED_OR_MASK = 0b101
MOST_PAGES = 10_000


@dataclass(frozen=True)
class Directory:
    """One directory of a TIFF file.

    Attributes:
        numbers: {tag: its value}, those that are a single whole number.
        claimed: bytes that its tags point at, counted as often as they are pointed at.
    """

    numbers: dict[int, int]
    claimed: int

    @property
    def page(self) -> bool:
        """Whether it is an image of its own, neither a smaller copy nor a mask of another."""
        return not self.numbers.get(SUBFILE, 0) & REDUCED_OR_MASK


def directories(stream: BinaryIO) -> Iterator[Directory]:
    """Yield the directories of a TIFF file in their order, each once; the file may end anywhere."""
    length = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    start = stream.read(16)
    if start[:4] not in MARKS or len(start) < 8:
        return
    order, big = ("<" if start[:2] == b"II" else ">"), b"+" in start[:4]
    shape = order + ("HHQQ" if big else "HHLL"), order + ("Q" if big else "L"), order + ("Q" if big else "H")
    try:
        (place,) = struct.unpack_from(shape[1], start, 8 if big else 4)
        seen: set[int] = set()
        while place and place not in seen and len(seen) <= MOST_PAGES:
            seen.add(place)
            stream.seek(place)
            found, place = _directory(stream, shape, length)
            yield found
    except (struct.error, OSError, OverflowError, ValueError):
        return


def _directory(stream: BinaryIO, shape: tuple[str, str, str], length: int) -> tuple[Directory, int]:
    entry, offset, number = (struct.Struct(each) for each in shape)
    (count,) = number.unpack(stream.read(number.size))
    listed = stream.read(min(count * entry.size, length))
    numbers, claimed = {}, 0
    for start in range(0, len(listed) - entry.size + 1, entry.size):
        tag, kind, values, place = entry.unpack_from(listed, start)
        size = SIZES.get(kind, 0) * values
        if size > offset.size:
            claimed += max(0, min(size, length - place))
        elif values == 1 and kind in (3, 4):
            inline = listed[start + entry.size - offset.size :]
            (numbers[tag],) = struct.unpack_from(shape[1][0] + {3: "H", 4: "L"}[kind], inline)
    following = stream.read(offset.size)
    return Directory(numbers, claimed), offset.unpack(following)[0] if len(following) == offset.size else 0


def check_tags(name: object, found: Directory, length: int) -> None:
    """Raise ImageError where the tags of a directory claim more bytes than all of the file's ``length``."""
    if found.claimed > length:
        raise ImageError(
            f"{name} is damaged: its tags claim {found.claimed:,} bytes, and there are {length:,}; "
            "replace it or leave it out"
        )


def check_exif(name: object, exif: bytes) -> None:
    """Raise ImageError where the tags of EXIF data claim more bytes than it has."""
    directory = exif.removeprefix(EXIF)
    for found in directories(io.BytesIO(directory)):
        check_tags(name, found, len(directory))


def exif_of_jpeg(stream: BinaryIO) -> bytes:
    """Return all EXIF of a JPEG file, joined as the library joins it; the file may end anywhere."""
    found: list[bytes] = []
    stream.seek(2)
    while (marker := stream.read(4))[:1] == b"\xff" and len(marker) == 4 and marker[1] != 0xDA:
        if marker[1] == 0xFF:  # fill bytes may stand before a marker
            stream.seek(-3, io.SEEK_CUR)
            continue
        body = stream.read(max(0, int.from_bytes(marker[2:], "big") - 2))
        if marker[1] == 0xE1 and body.startswith(EXIF):
            found.append(body if not found else body[len(EXIF) :])
    return b"".join(found)
