"""One frame of a DICOM file as a file of its own: the elements that decide its pixels, and its part of them.

So a film is read frame by frame and never as a whole, and whatever reads, bounds and hashes a single image
does the same with each of its frames.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Collection
from dataclasses import replace
from itertools import pairwise
from typing import Any

from ttr.datasets.dicom.compressed import J2K_START, JPEG_START, PICTURE_END, Measures, name_of
from ttr.datasets.dicom.elements import (
    FLOATS,
    FRAMES,
    ITEM,
    LARGE,
    OFFSETS,
    PIXELS,
    SEQUENCE_END,
    UNDEFINED,
    Essence,
    FileView,
    essential,
)
from ttr.datasets.dicom.groups import lifted
from ttr.datasets.dicom.pixels import NATIVE, check_native, check_pixels, frames_of, native_bytes
from ttr.datasets.dicom.tags import TAGS
from ttr.datasets.limits import MOST_BYTES_A_PIXEL, MOST_PIXELS, no_memory
from ttr.datasets.quiet import quiet
from ttr.errors import ImageError
from ttr.wording import counted

#: Bytes beside its pixels that a deflated file may hold.
OTHER_BYTES = 2**20


def single_frame(name: object, content: bytes | FileView, frame: int) -> bytes:
    """Return a DICOM file that holds one frame of another, counted from 1, and nothing of the patient.

    Raises:
        ImageError: no DICOM image, no such frame, or frames that cannot be told apart.
    """
    with quiet():
        try:
            return _single_frame(name, content, frame)
        except MemoryError:
            raise no_memory(name) from None


def _single_frame(name: object, content: bytes | FileView, frame: int) -> bytes:
    found, data = parsed(name, content, MOST_PIXELS, frame)
    said, count = check_pixels(name, data, MOST_PIXELS), frames_of(name, data)
    if not 1 <= frame <= count:
        raise ImageError(f"{name} is no frame of its file, which holds {count:,}; needed 1 to {count:,}")
    written, pixels = found.encoding.written, pixels_of(name, found, data, said, frame)
    pixels += b"\0" * (len(pixels) % 2)
    length = len(pixels)
    if found.in_fragments:
        pixels = written(ITEM, 0) + written(ITEM, length) + pixels + written(SEQUENCE_END, 0)
        length = UNDEFINED
    element = written(PIXELS, length, found.kind) + pixels
    return found.file(without={*LARGE, FRAMES}, more=element)


def parsed(
    name: object,
    content: bytes | FileView,
    most_pixels: int,
    frame: int = 1,
    tags: Collection[str] = TAGS,
) -> tuple[Essence, Any]:
    """Return where the wanted elements of an image lie, and all but its pixels as a data set of one frame.

    ``tags``: the keywords of the wanted elements.

    Raises:
        ImageError: no DICOM file, no image, or more of anything than an image needs.
    """
    import pydicom
    from pydicom.datadict import tag_for_keyword

    wanted = frozenset(tag_for_keyword(keyword) or 0 for keyword in tags)
    try:
        most_inflated = MOST_BYTES_A_PIXEL * most_pixels + OTHER_BYTES
        found = essential(name, content, wanted | LARGE, most_inflated)
        found = replace(found, lifted=lifted(name, found, frame, wanted))
        data = pydicom.dcmread(io.BytesIO(found.file(without=LARGE)), specific_tags=list(tags))
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # of any kind, on bytes that may be anything
        raise ImageError(f"{name} is no DICOM file that can be read ({type(error).__name__})") from None
    if FLOATS & found.spans.keys():
        raise ImageError(f"{name} holds pixels that are no whole numbers; export it in 8 or 16 bits")
    if PIXELS not in found.spans:
        raise ImageError(f"{name} holds no pixels; needed an image, not a report or a structure set")
    return found, data


def pixels_of(name: object, found: Essence, data: Any, said: Measures, frame: int) -> bytes:
    """Return the pixels of one frame, counted from 1, as they are stored: plain, or as a compressed picture.

    Raises:
        ImageError: they end early, are not stored as the file says, or frames cannot be told apart.
    """
    syntax, count = str(data.file_meta.TransferSyntaxUID), frames_of(name, data)
    if found.in_fragments and syntax in NATIVE:
        raise ImageError(
            f"{name} holds compressed pixels and does not say how they are compressed; export it anew"
        )
    if not found.in_fragments and syntax not in NATIVE:
        raise ImageError(
            f"{name} says that it is compressed as {name_of(syntax)}, and its pixels are not; export it anew"
        )
    return (_packed if found.in_fragments else _plain)(name, found, data, said, frame, count)


def _plain(name: object, found: Essence, data: Any, said: Measures, frame: int, count: int) -> bytes:
    _, start, end = found.spans[PIXELS]
    held = end - start
    check_native(name, data, said, held // count)
    length = native_bytes(said, data.PhotometricInterpretation)
    # Frames of single bits may share a byte, and those of a big-endian file a word.
    shared = said.rows * said.columns * said.bits % 8 or (found.encoding.big and length % 2)
    spare = held - count * length
    if (spare not in (0, 1) or shared) if count > 1 else spare >= max(2, length):
        raise ImageError(
            f"{name} holds {held:,} bytes and says that it has {counted(count, 'frame')} of {length:,}; "
            "needed as many as there are: export it anew"
        )
    if count == 1:
        return found.data[start:end]
    start += (frame - 1) * length
    return found.data[start : start + length]


def _packed(name: object, found: Essence, data: Any, said: Measures, frame: int, count: int) -> bytes:
    offsets, *parts = _fragments(name, found)
    if count > 1:
        table = found.data[offsets[1] : offsets[2]]
        chosen = _by_offsets(found.value(OFFSETS), "Q", parts, frame, count)
        chosen = chosen or _by_offsets(table, "L", parts, frame, count)
        chosen = chosen or _in_turn(found, parts, frame, count)
    else:
        chosen = parts if sum(_starts_picture(found, part) for part in parts) < 2 else []
    if not chosen:
        raise ImageError(
            f"{name} holds {len(parts):,} compressed parts and says that it has {counted(count, 'frame')}, "
            "not which is whose; export it anew"
        )
    return b"".join(found.data[start:end] for _, start, end in chosen)


def _starts_picture(found: Essence, part: tuple[int, int, int]) -> bool:
    _, start, _ = part
    return found.data[start : start + 4].startswith((JPEG_START, J2K_START))


def _fragments(name: object, found: Essence) -> list[tuple[int, int, int]]:
    """Return the place, start and end of each fragment; the first is the table of the others' places."""
    _, place, end = found.spans[PIXELS]
    parts = []
    while place < end:
        tag, length, value = found.encoding.header(found.data, place)
        if tag == SEQUENCE_END:
            break
        if tag != ITEM or length == UNDEFINED:
            raise ImageError(
                f"{name} cannot be decoded: its compressed pixels are in no order; export it anew"
            )
        parts.append((place, value, value + length))
        place = value + length
    if len(parts) < 2:
        raise ImageError(f"{name} cannot be decoded: it holds no compressed pixels; get it again")
    return parts


def _by_offsets(
    table: bytes, size: str, parts: list[tuple[int, int, int]], frame: int, count: int
) -> list[tuple[int, int, int]]:
    """Return the fragments of a frame as a table of places says; nothing where that does not fit them."""
    if len(table) != count * struct.calcsize(f"<{size}"):
        return []
    numbers = {place - parts[0][0]: number for number, (place, _, _) in enumerate(parts)}
    starts = [numbers.get(offset, -1) for offset in struct.unpack(f"<{count}{size}", table)]
    if starts[0] != 0 or any(after <= before for before, after in pairwise(starts)):
        return []
    return parts[starts[frame - 1] : starts[frame] if frame < count else None]


def _in_turn(
    found: Essence, parts: list[tuple[int, int, int]], frame: int, count: int
) -> list[tuple[int, int, int]]:
    """Return the fragments of a frame: one each, or as the marks that end a picture divide them."""
    if len(parts) == count:
        return [parts[frame - 1]]
    ends = [
        number
        for number, (_, start, end) in enumerate(parts, start=1)
        if PICTURE_END in found.data[max(start, end - 32) : end]
    ]
    if len(ends) != count or ends[-1] != len(parts):
        return []
    return parts[ends[frame - 2] if frame > 1 else 0 : ends[frame - 1]]
