"""The few elements of a DICOM file that decide its pixels, copied out of it: the others are stepped over.

A parser that builds what it reads can be made to build anything: millions of items, nests without end, a
number of a hundred megabytes. Here an element is a place in the file. What is inflated, how many elements are
looked at, how deep they lie and how long a copied one is are all bounded, and no patient tag is ever parsed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from ttr.errors import ImageError

PREAMBLE, MARK = 128, b"DICM"
#: Kinds of values whose length takes four bytes in an explicit file.
LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
IMPLICIT, EXPLICIT, DEFLATED = b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.1.99"
BIG_ENDIAN = b"1.2.840.10008.1.2.2"
SYNTAX, FRAMES, PIXELS = 0x00020010, 0x00280008, 0x7FE00010
#: Of modality and VOI, and of a palette's colours, whole or in segments.
TABLES = frozenset({0x00283000, 0x00283010, *range(0x00281201, 0x00281204), *range(0x00281221, 0x00281224)})
#: Places of the frames among compressed pixels; what holds of all frames, and of each.
OFFSETS, SHARED, PER_FRAME = 0x7FE00001, 0x52009229, 0x52009230
#: Pixels that are no whole numbers.
FLOATS = frozenset({0x7FE00008, 0x7FE00009})
#: What may be long, and is bounded where it is used.
LARGE = frozenset({PIXELS, OFFSETS, SHARED, PER_FRAME, *FLOATS})
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF
MOST_ELEMENTS, MOST_DEPTH = 100_000, 32
MOST_BEFORE_PIXELS = 16 * 2**20
#: Bytes of a copied value: of a lookup table with all its alternatives, and of anything else but pixels.
MOST_TABLE, MOST_VALUE = 4 * 2**20, 4096


class FileView:
    """A file as bytes that are read where a part of them is asked for."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._length = stream.seek(0, 2)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._length)
        self._stream.seek(start)
        return self._stream.read(max(0, stop - start))


@dataclass(frozen=True)
class Encoding:
    """How a file writes its elements: with the kind of each value or without, and in which byte order."""

    implicit: bool
    big: bool = False

    @property
    def syntax(self) -> bytes:
        """The transfer syntax of uncompressed pixels that are written so."""
        return BIG_ENDIAN if self.big else IMPLICIT if self.implicit else EXPLICIT

    def header(self, data: bytes | FileView, place: int) -> tuple[int, int, int]:
        """Return the tag, the length and the place of the value of the element at ``place``.

        Raises:
            struct.error: the data ends before.
        """
        order, start = ">" if self.big else "<", data[place : place + 12]
        group, number, kind, short = struct.unpack_from(f"{order}HH2sH", start)
        (length,) = struct.unpack_from(f"{order}L", start, 4)
        value = place + 8
        if not self.implicit and group != 0xFFFE and b"AA" <= kind <= b"ZZ":
            length = short
            if kind in LONG:
                (length,) = struct.unpack_from(f"{order}L", start, 8)
                value += 4
        return group << 16 | number, length, value

    def written(self, tag: int, length: int, kind: bytes = b"") -> bytes:
        """Return the start of an element of a long kind, up to its value; without a kind, of an item."""
        order = ">" if self.big else "<"
        start = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
        said = b"" if self.implicit or not kind else kind + b"\0\0"
        return start + said + struct.pack(f"{order}L", length)


@dataclass(frozen=True)
class Essence:
    """Where the wanted elements of a DICOM file lie.

    Attributes:
        data: the file, or what it inflates to.
        syntax: transfer syntax as it is, or is seen to be where the file does not say.
        encoding: how its elements are written.
        spans: {tag: (start of the element, start of its value, end)}.
        lifted: {tag: element} of what stands deeper, and counts where the file says nothing else.
    """

    data: bytes | FileView
    syntax: bytes
    encoding: Encoding
    spans: dict[int, tuple[int, int, int]]
    lifted: Mapping[int, bytes] = field(default_factory=dict)

    def file(self, without: Collection[int], more: bytes = b"") -> bytes:
        """Return a DICOM file of these elements, some left out and ``more`` behind them."""
        kept = (self.data[start:end] for tag, (start, _, end) in self.spans.items() if tag not in without)
        lifted = (element for tag, element in self.lifted.items() if tag not in self.spans)
        return b"".join([bytes(PREAMBLE) + MARK, _said_syntax(self.syntax), *kept, *lifted, more])

    def value(self, tag: int) -> bytes:
        """Return the bytes of a value, none where there is no such element."""
        _, value, end = self.spans.get(tag, (0, 0, 0))
        return self.data[value:end]

    @property
    def kind(self) -> bytes:
        """The kind of value that the pixels are: OB, OW, or where the file does not say it, OW."""
        start, _, _ = self.spans[PIXELS]
        return b"OB" if self.data[start + 4 : start + 6] == b"OB" and not self.encoding.implicit else b"OW"

    @property
    def in_fragments(self) -> bool:
        """Whether the pixels are compressed: written as fragments, up to a mark that ends them."""
        _, value, _ = self.spans[PIXELS]
        return self.data[value - 4 : value] == b"\xff" * 4


def starts_like_dicom(head: bytes) -> bool:
    """Return whether a file's first 132 bytes are DICOM's: its mark, or an element as it may stand first."""
    if head[PREAMBLE : PREAMBLE + 4] == MARK:
        return True
    kind, length = head[4:6], int.from_bytes(head[4:8], "little")
    explicit = kind.isalpha() and kind.isupper()
    little = head[:2] in (b"\2\0", b"\x08\0") and head[3:4] == b"\0" and (explicit or length <= 256)
    return little or (explicit and head[:3] == b"\0\x08\0")


def essential(
    name: object, content: bytes | FileView, wanted: Collection[int], most_inflated: int
) -> Essence:
    """Return the wanted elements of a DICOM file, and no others; inflated if it was not.

    Args:
        name: of the file, for messages.
        content: its bytes.
        wanted: tags.
        most_inflated: bytes that a deflated file may become.

    Raises:
        ImageError: no DICOM file, cut short, or more of anything than an image needs.
    """
    data, syntax, place = _data_set(name, content, most_inflated)
    encoding = _encoding(syntax, data, place)
    spans: dict[int, tuple[int, int, int]] = {}
    for tag, start, value, end in elements(name, data, place, encoding):
        if tag not in wanted:
            continue
        if end > len(data):
            raise _cut(name)
        most = MOST_TABLE if tag in TABLES else MOST_VALUE
        if tag not in LARGE and end - value > most:
            raise ImageError(
                f"{name} holds {end - value:,} bytes in its element ({tag >> 16:04X},{tag & 0xFFFF:04X}); "
                f"needed {most:,} at most: export it anew"
            )
        spans[tag] = start, value, end
    return Essence(data, syntax or encoding.syntax, encoding, spans)


def frames(content: bytes | FileView) -> int:
    """Return how many frames a DICOM file says that it holds; 1 where it does not, or cannot be read."""
    syntax, place = _syntax(content)
    try:
        if syntax == DEFLATED:
            packed = content[place : place + MOST_VALUE]
            content, place, syntax = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed), 0, EXPLICIT
        for tag, _, value, end in elements("", content, place, _encoding(syntax, content, place)):
            if tag >= FRAMES:
                return max(1, int(content[value:end].strip(b"\0 "))) if tag == FRAMES else 1
    except (ImageError, ValueError, zlib.error):
        pass
    return 1


def _data_set(
    name: object, content: bytes | FileView, most_inflated: int
) -> tuple[bytes | FileView, bytes, int]:
    """Return the bytes that hold the data set, how they say that it is written, and where it begins."""
    if not starts_like_dicom(content[: PREAMBLE + 4]):
        raise ImageError(f"{name} is no DICOM file that can be read; needed one with its mark, DICM")
    syntax, place = _syntax(content)
    if syntax == DEFLATED:
        return inflated(name, content[place:], most_inflated), EXPLICIT, 0
    return content, syntax, place


def undeflated(name: object, content: bytes, most_inflated: int) -> bytes:
    """Return a deflated file as one that is not, so that it is inflated once; any other as it is.

    Raises:
        ImageError: it inflates to more, or is damaged.
    """
    if not starts_like_dicom(content[: PREAMBLE + 4]) or _syntax(content)[0] != DEFLATED:
        return content
    data, syntax, _ = _data_set(name, content, most_inflated)
    return b"".join([bytes(PREAMBLE) + MARK, _said_syntax(syntax), data[:]])


def elements(
    name: object, data: bytes | FileView, place: int, encoding: Encoding
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


def _syntax(content: bytes | FileView) -> tuple[bytes, int]:
    """Return how a file says that its data set is written, and where that begins."""
    marked = content[PREAMBLE : PREAMBLE + 4] == MARK
    syntax, place = b"", PREAMBLE + 4 if marked else 0
    while content[place : place + 2] == b"\2\0":
        try:
            tag, length, value = Encoding(implicit=False).header(content, place)
        except struct.error:
            break
        place = value + length
        if tag == SYNTAX:
            syntax = content[value:place].rstrip(b"\0 ")
    return syntax, place


def _encoding(syntax: bytes, data: bytes | FileView, place: int) -> Encoding:
    """Return how the elements are written: in the byte order that the file says, as its first one looks."""
    start = data[place : place + 6]
    implicit = not start[4:].isalpha() or not start[4:].isupper()
    unsaid_big = not syntax and not implicit and int.from_bytes(start[:2], "little") >= 1024
    return Encoding(implicit, syntax == BIG_ENDIAN or unsaid_big)


def _said_syntax(syntax: bytes) -> bytes:
    padded = syntax + b"\0" * (len(syntax) % 2)
    return struct.pack("<HH2sH", 2, 0x10, b"UI", len(padded)) + padded


def _cut(name: object) -> ImageError:
    return ImageError(f"{name} cannot be decoded: the file ends within its pixels or tags; get it again")
