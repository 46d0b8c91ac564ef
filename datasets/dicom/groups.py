"""What an enhanced DICOM file says of its frames one by one: in nests that are opened no further than needed.

Slope, window, spacing and place of such a file stand in sequences: those of all frames in one, those of each
frame in an item of another. They are lifted to where a plain file has them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ttr.datasets.dicom.elements import ITEM, PER_FRAME, SHARED, UNDEFINED, Encoding, Essence, elements
from ttr.errors import ImageError

#: Sequences of a slope, a window, a spacing, a position and an orientation.
HOLDERS = frozenset({0x00289145, 0x00289132, 0x00289110, 0x00209113, 0x00209116})
MOST_GROUPS = 64 * 2**20


def lifted(name: object, found: Essence, frame: int, wanted: Collection[int]) -> dict[int, bytes]:
    """Return {tag: element} of what holds for one frame, counted from 1; what it says itself goes before.

    Raises:
        ImageError: more bytes, elements or nests than an image has.
    """
    elements_of_it: dict[int, bytes] = {}
    for tag, number in ((SHARED, 1), (PER_FRAME, frame)):
        _, value, end = found.spans.get(tag, (0, 0, 0))
        if end - value > MOST_GROUPS:
            raise ImageError(
                f"{name} says over {MOST_GROUPS / 1e6:,.0f} MB of its frames; export fewer of them"
            )
        group = _item(name, found.data[value:end], found.encoding, number)
        for holder, _, start, end in elements(name, group, 0, found.encoding):
            if holder in HOLDERS:
                inner = _item(name, group[start:end], found.encoding, 1)
                spans = elements(name, inner, 0, found.encoding)
                elements_of_it |= {tag: inner[first:last] for tag, first, _, last in spans if tag in wanted}
    return elements_of_it


def _item(name: object, sequence: bytes, encoding: Encoding, number: int) -> bytes:
    """Return the content of an item, counted from 1; nothing where there is none."""
    for count, item in enumerate(_items(name, sequence, encoding), start=1):
        if count == number:
            return item
    return b""


def _items(name: object, sequence: bytes, encoding: Encoding) -> Iterator[bytes]:
    place = 0
    while place + 8 <= len(sequence):
        tag, length, value = encoding.header(sequence, place)
        if tag != ITEM:
            return
        end = value + length
        place = end
        if length == UNDEFINED:
            ends = [end for _, _, _, end in elements(name, sequence, value, encoding)]
            end = ends[-1] if ends else value
            place = end + 8  # behind the mark of its end
        yield sequence[value:end]
