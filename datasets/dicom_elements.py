"""The few elements of a DICOM file that decide its pixels, copied out of it: the others are stepped over.

A parser that builds what it reads can be made to build anything: millions of items, nests without end, a
number of a hundred megabytes. Here an element is a place in the file. What is inflated, how many elements are
looked at, how deep they lie and how long a copied one is are all bounded, and no patient tag is ever parsed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ttr.errors import ImageError

PREAMBLE, MARK = 128, b"DICM"
#: Kinds of values whose length takes four bytes in an explicit file.
LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
EXPLICIT, DEFLATED = b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.1.99"
BIG_ENDIAN = b"1.2.840.10008.1.2.2"
SYNTAX, PIXELS = 0x00020010, 0x7FE00010
TABLES = (0x00283000, 0x00283010)
ITEM_END, SEQUENCE_END = 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF
MOST_ELEMENTS, MOST_DEPTH = 100_000, 32
MOST_BEFORE_PIXELS = 16 * 2**20
#: Bytes of a copied value: of a lookup table with all its alternatives, and of anything else but pixels.
MOST_TABLE, MOST_VALUE = 4 * 2**20, 4096


@dataclass(frozen=True)
class Encoding:
    """How a file writes its elements: with the kind of each value or without, and in which byte order."""

    implicit: bool
    big: bool = False

    def header(self, data: bytes, place: int) -> tuple[int, int, int]:
        """Return the tag, the length and the place of the value of the element at ``place``.

        Raises:
            struct.error: the data ends before.
        """
        order = ">" if self.big else "<"
        group, number, kind, short = struct.unpack_from(f"{order}HH2sH", data, place)
        (length,) = struct.unpack_from(f"{order}L", data, place + 4)
        value = place + 8
        if not self.implicit and group != 0xFFFE and b"AA" <= kind <= b"ZZ":
            length = short
            if kind in LONG:
                (length,) = struct.unpack_from(f"{order}L", data, value)
                value += 4
        return group << 16 | number, length, value


def essential(name: object, content: bytes, wanted: Collection[int], most_inflated: int) -> bytes:
    """Return a DICOM file that holds the wanted elements of another, and no others; inflated if it was not.

    Args:
        name: of the file, for messages.
        content: its bytes.
        wanted: tags.
        most_inflated: bytes that a deflated file may become.

    Raises:
        ImageError: no DICOM file, cut short, or more of anything than an image needs.
    """
    if content[PREAMBLE : PREAMBLE + 4] != MARK:
        raise ImageError(f"{name} is no DICOM file that can be read; needed one with its mark, DICM")
    syntax, place = _syntax(content)
    data = content
    if syntax == DEFLATED:
        data, place, syntax = inflated(name, content[place:], most_inflated), 0, EXPLICIT
    kept = [bytes(PREAMBLE) + MARK, _said_syntax(syntax)]
    for tag, start, value, end in elements(name, data, place, _encoding(syntax, data, place)):
        if tag not in wanted:
            continue
        if end > len(data):
            raise _cut(name)
        most = MOST_TABLE if tag in TABLES else MOST_VALUE
        if tag != PIXELS and end - value > most:
            raise ImageError(
                f"{name} holds {end - value:,} bytes in its element ({tag >> 16:04X},{tag & 0xFFFF:04X}); "
                f"needed {most:,} at most: export it anew"
            )
        kept.append(data[start:end])
    return b"".join(kept)


def elements(
    name: object, data: bytes, place: int, encoding: Encoding
) -> Iterator[tuple[int, int, int, int]]:
    """Yield tag, start, start of the value and end of each element of the top level, nested ones within.

    An element that says that it is longer than the data ends beyond it.

    Raises:
        ImageError: more elements, or deeper ones, than an image has; or the data ends within a nest.
    """
    open_at: tuple[int, int, int] | None = None
    seen = depth = 0
    while place + 8 <= len(data):
        try:
            tag, length, value = encoding.header(data, place)
        except struct.error:
            break
        start, seen = place, seen + 1
        place = value
        if tag in (ITEM_END, SEQUENCE_END):
            depth -= 1
        elif length == UNDEFINED:
            open_at = open_at or (tag, start, value)
            depth += 1
        else:
            place += length
        if depth < 0:
            return
        if seen > MOST_ELEMENTS or depth > MOST_DEPTH:
            raise ImageError(
                f"{name} holds more than {MOST_ELEMENTS:,} elements or {MOST_DEPTH} nests of them; needed a "
                "DICOM image: export it anew"
            )
        if depth == 0:
            yield (*(open_at or (tag, start, value)), place)
            open_at = None
    if depth:
        raise _cut(name)


def inflated(name: object, packed: bytes, most: int) -> bytes:
    """Return a deflated data set up to the end of its pixels, at most ``most`` bytes.

    How long that is stands before the pixels, so nothing is inflated to find out that it is too much.

    Raises:
        ImageError: more, or no deflated data set.
    """
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = stream.decompress(packed, MOST_BEFORE_PIXELS)
        if stream.eof or len(data) < MOST_BEFORE_PIXELS:
            return data
        found = elements(name, data, 0, _encoding(EXPLICIT, data, 0))
        length = next((end for tag, _, _, end in found if tag == PIXELS), None)
        if length is None:
            raise ImageError(
                f"{name} inflates to more than {MOST_BEFORE_PIXELS / 1e6:,.0f} MB before its pixels; "
                "needed a DICOM image: export it anew"
            )
        if length > most:
            raise ImageError(
                f"{name} inflates from {len(packed) / 1e6:,.1f} MB to {length / 1e6:,.0f}; needed "
                f"{most / 1e6:,.0f} MB at most: export it smaller"
            )
        return data + stream.decompress(stream.unconsumed_tail, max(1, length - len(data)))
    except zlib.error:
        raise ImageError(f"{name} is no DICOM file that can be read; its deflated part is damaged") from None


def _syntax(content: bytes) -> tuple[bytes, int]:
    """Return how a file says that its data set is written, and where that begins."""
    syntax, place = b"", PREAMBLE + 4
    while content[place : place + 2] == b"\2\0":
        tag, length, value = Encoding(implicit=False).header(content, place)
        place = value + length
        if tag == SYNTAX:
            syntax = content[value:place].rstrip(b"\0 ")
    return syntax, place


def _encoding(syntax: bytes, data: bytes, place: int) -> Encoding:
    """Return how the elements are written: in the byte order that the file says, as its first one looks."""
    implicit = not data[place + 4 : place + 6].isalpha() or not data[place + 4 : place + 6].isupper()
    unsaid_big = not syntax and not implicit and int.from_bytes(data[place : place + 2], "little") >= 1024
    return Encoding(implicit, syntax == BIG_ENDIAN or unsaid_big)


def _said_syntax(syntax: bytes) -> bytes:
    if not syntax:
        return b""
    padded = syntax + b"\0" * (len(syntax) % 2)
    return struct.pack("<HH2sH", 2, 0x10, b"UI", len(padded)) + padded


def _cut(name: object) -> ImageError:
    return ImageError(f"{name} cannot be decoded: the file ends within its pixels or tags; get it again")
