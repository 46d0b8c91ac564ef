"""Lookup tables of a DICOM file: of its modality, of its values of interest (VOI), and of a palette."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ttr.datasets.dicom.tags import numbers
from ttr.errors import ImageError

MOST_ENTRIES = 65_536
PALETTE = "PaletteColorLookupTable"
#: Kinds of a palette's segments: values one by one, and a line to a value.
DISCRETE, LINEAR = 0, 1


@dataclass(frozen=True, eq=False)
class Table:
    """What whole numbers are looked up in.

    Attributes:
        first: the number of the first entry; lower ones have that entry, higher ones than all the last.
        entries: uint8 or uint16 [N].
        bits: of an entry, as the file says.
    """

    first: int
    entries: np.ndarray
    bits: int

    def look_up(self, values: np.ndarray) -> np.ndarray:
        """Return the entries of some values, of their shape."""
        places = np.rint(values).astype(np.int64) if values.dtype.kind == "f" else values.astype(np.int64)
        return self.entries[(places - self.first).clip(0, len(self.entries) - 1)]

    def below_zero(self) -> Table:
        """Return the table of values that may be negative: its first number is then a signed one of 16 bits.

        The standard has it so, whatever kind of number the file says that it is.
        """
        return replace(self, first=self.first - MOST_ENTRIES) if self.first >= MOST_ENTRIES // 2 else self

    @property
    def white(self) -> int:
        """The entry that is shown white: the largest of its bits, or its own where it uses few of them."""
        largest, said = int(self.entries.max()), 2**self.bits - 1
        return said if said // 8 < largest <= said else max(1, largest)


def table_of(name: object, data: Any, keyword: str) -> Table | None:
    """Return the first table of a sequence, or None where there is none.

    Raises:
        ImageError: it is larger than any table, ends early, or says nothing of itself.
    """
    items = data.get(keyword)
    if not items:
        return None
    return _table(name, items[0], "LUTDescriptor", "LUTData", _order(data))


def palette_of(name: object, data: Any) -> tuple[Table, Table, Table]:
    """Return the tables of red, green and blue, whole or in segments; refusals are :func:`table_of`'s."""
    found = []
    for colour in ("Red", "Green", "Blue"):
        said, whole = f"{colour}{PALETTE}Descriptor", f"{colour}{PALETTE}Data"
        held = whole if whole in data else f"Segmented{whole}"
        found.append(_table(name, data, said, held, _order(data)))
    red, green, blue = found
    return red, green, blue


def in_palette(values: np.ndarray, palette: Sequence[Table]) -> np.ndarray:
    """Return colours as uint8 [H, W, 3]."""
    # Some writers say 16 bits of entries that have 8, and some 12.
    said, largest = max(table.bits for table in palette), max(int(table.entries.max()) for table in palette)
    most = 255 if largest < 256 else 2 ** max(said, largest.bit_length()) - 1
    shown = (
        replace(table, entries=np.rint(table.entries * (255 / most)).astype(np.uint8)) for table in palette
    )
    return np.stack([table.look_up(values) for table in shown], axis=-1)


def _order(data: Any) -> str:
    return ">" if data.file_meta.get("TransferSyntaxUID") == "1.2.840.10008.1.2.2" else "<"


def _table(name: object, data: Any, said: str, held: str, order: str) -> Table:
    described = numbers(data, said)
    if described is None or len(described) != 3:
        raise ImageError(
            f"{name} has a lookup table without its {said}; needed three numbers: export it anew"
        )
    length, first, bits = map(int, described)
    if -MOST_ENTRIES < length <= 0:  # of all entries that there can be, or a number read as a signed one
        length += MOST_ENTRIES
    if not (0 < length <= MOST_ENTRIES and abs(first) < MOST_ENTRIES and 8 <= bits <= 16):
        raise ImageError(
            f"{name} has a lookup table of {length:,} entries of {bits:,} bits from {first:,} on; needed "
            f"{MOST_ENTRIES:,} entries of 8 to 16 bits at most: export it without the table"
        )
    raw = _raw(data, held, order)
    if held.startswith("Segmented"):
        entries = _expanded(name, _words(raw, order, bits), length)
    else:
        entries = _words(raw[: 2 * length], order, 16 if len(raw) >= 2 * length else 8)[:length]
    if len(entries) < length:
        raise ImageError(f"{name} has a lookup table of {length:,} entries that ends early; get it again")
    return Table(first, entries, bits)


def _raw(data: Any, held: str, order: str) -> bytes:
    """Return the bytes of a table in the file's order, whichever kind of value they are written as."""
    value = data.get(held)
    if value is None or isinstance(value, bytes):
        return value or b""
    several = numbers(data, held) or []
    return np.array(several).astype(np.int64).astype(f"{order}u2").tobytes()


def _words(raw: bytes, order: str, bits: int) -> np.ndarray:
    words = np.frombuffer(raw[: len(raw) // 2 * 2], f"{order}u2").astype(np.uint16)
    return words if bits > 8 else np.frombuffer(words.astype("<u2").tobytes(), np.uint8)


def _expanded(name: object, words: np.ndarray, length: int) -> np.ndarray:
    """Return the entries of a table in segments (PS3.3, C.7.9.2), at most ``length`` of them."""
    found: list[float] = []
    place, said = 0, words.tolist()
    while place + 2 < len(said) and len(found) < length:
        kind, count = said[place : place + 2]
        if kind == DISCRETE:
            found += said[place + 2 : place + 2 + count]
            place += 2 + count
        elif kind == LINEAR and found:
            found += np.linspace(found[-1], said[place + 2], count + 1)[1:].tolist()
            place += 3
        else:
            raise ImageError(
                f"{name} has a palette whose segments refer to others; needed values and lines: export it "
                "anew"
            )
    return np.rint(found[:length]).astype(words.dtype)
