"""What the pixels of a DICOM file would unpack to, known from its numbers before a decoder sees them."""

from __future__ import annotations

import io
import struct
from typing import Any

from ttr.datasets.limits import check_size
from ttr.datasets.tiff_directories import check_exif, exif_of_jpeg
from ttr.errors import ImageError

NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
RLE = "1.2.840.10008.1.2.5"
COMPRESSED_PICTURES = "1.2.840.10008.1.2.4."
GREY = ("MONOCHROME1", "MONOCHROME2")
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")
MOST_ENTRIES = 65_536
#: Times that a pixel may be longer than wide.
MOST_STRETCHED = 10


def check_pixels(name: object, data: Any, most_pixels: int) -> None:
    """Check that a data set holds one picture that may be decoded.

    Raises:
        ImageError: several frames, no pixels, too many of them or of their bytes, or what is compressed is
            another picture than the file says.
    """
    frames = int(data.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ImageError(f"{name} holds {frames:,} frames; needed a single image: export the frame you mean")
    if "PixelData" not in data:
        raise ImageError(f"{name} holds no pixels; needed an image, not a report or a structure set")
    rows, columns = int(data.get("Rows") or 0), int(data.get("Columns") or 0)
    check_size(name, columns, rows, most_pixels)
    samples, bits = int(data.get("SamplesPerPixel") or 1), int(data.get("BitsAllocated") or 0)
    if samples not in (1, 3) or bits not in (1, 8, 16, 32):
        raise ImageError(
            f"{name} holds {samples:,} values of {bits:,} bits a pixel; needed grey or three colours of 1, "
            "8, 16 or 32 bits"
        )
    _check_colours(name, str(data.get("PhotometricInterpretation") or ""), samples)
    for tables in ("ModalityLUTSequence", "VOILUTSequence"):
        _check_table(name, data.get(tables))
    syntax = str(data.file_meta.get("TransferSyntaxUID", ""))
    if syntax in NATIVE or not syntax:
        _check_native(name, len(data.PixelData), rows * columns * samples * bits)
    else:
        _check_compressed(name, syntax, data.PixelData, rows, columns, samples * bits // 8)


def aspect(name: object, data: Any) -> float:
    """Return the height of a pixel over its width; 1 where the file does not say.

    Raises:
        ImageError: one side is more than :data:`MOST_STRETCHED` times the other.
    """
    for tag in ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"):
        value = data.get(tag)
        if value is None or isinstance(value, str | int | float) or len(value) != 2:
            continue
        vertical, horizontal = map(float, value)
        if vertical > 0 and horizontal > 0:
            ratio = vertical / horizontal
            if not 1 / MOST_STRETCHED <= ratio <= MOST_STRETCHED:
                raise ImageError(
                    f"{name} says that its pixels are {max(ratio, 1 / ratio):,.0f} times as long as wide; "
                    f"needed {MOST_STRETCHED} times at most: correct its pixel spacing"
                )
            return ratio
    return 1.0


def stretched(name: object, width: int, height: int, ratio: float, most_pixels: int) -> tuple[int, int]:
    """Return width and height once pixels that are ``ratio`` times as high as wide are square.

    Raises:
        ImageError: that would be too many pixels, or a strip.
    """
    if abs(ratio - 1) <= 0.01:
        return width, height
    size = round(width * max(1, 1 / ratio)), round(height * max(1, ratio))
    check_size(f"{name}, stretched to its pixel spacing,", *size, most_pixels)
    return size


def _check_colours(name: object, said: str, samples: int) -> None:
    if said not in (GREY if samples == 1 else COLOURS):
        what = (
            "a palette of colours" if said == "PALETTE COLOR" else "colours of a kind that is not read here"
        )
        raise ImageError(f"{name} has {what}; needed MONOCHROME1, MONOCHROME2, RGB or YBR: convert it first")


def _check_table(name: object, tables: Any) -> None:
    if not tables:
        return
    length, first, bits = map(int, tables[0].LUTDescriptor)
    held = len(tables[0].LUTData)
    if not (0 <= length <= MOST_ENTRIES and abs(first) <= MOST_ENTRIES and 8 <= bits <= 16):
        raise ImageError(
            f"{name} has a lookup table of {length:,} entries of {bits:,} bits from {first:,} on; needed "
            f"{MOST_ENTRIES:,} entries of 8 to 16 bits at most: export it without the table"
        )
    if held < (length or MOST_ENTRIES):
        raise ImageError(f"{name} has a lookup table of {length:,} entries that ends early; get it again")


def _check_native(name: object, held: int, bits: int) -> None:
    needed = (bits + 7) // 8
    # colours of half the resolution hold two bytes a pixel where others hold three
    if held < needed * 2 // 3:
        raise ImageError(
            f"{name} cannot be decoded: it holds {held:,} of the {needed:,} bytes of its pixels; get it again"
        )


def _check_compressed(name: object, syntax: str, held: bytes, rows: int, columns: int, size: int) -> None:
    from pydicom.encaps import generate_fragments, parse_basic_offsets

    stream = io.BytesIO(held)
    parse_basic_offsets(stream)
    frame = b"".join(generate_fragments(stream))
    if syntax == RLE:
        _check_segments(name, frame, rows * columns, size)
    elif syntax.startswith(COMPRESSED_PICTURES):
        check_exif(name, exif_of_jpeg(io.BytesIO(frame)) if frame[:2] == b"\xff\xd8" else b"")
        found = _size_of(frame)
        if found is not None and found != (columns, rows):
            raise ImageError(
                f"{name} says that it has {columns:,} × {rows:,} pixels, and {found[0]:,} × {found[1]:,} are "
                "compressed in it; export it anew"
            )


def _check_segments(name: object, frame: bytes, pixels: int, size: int) -> None:
    """Check each RLE segment: one byte of every pixel, and a little padding."""
    count, *starts = struct.unpack("<16L", frame[:64].ljust(64, b"\0"))
    if count != size:
        raise ImageError(f"{name} is compressed in {count:,} parts; needed {size}, one a byte of a pixel")
    for start, end in zip(starts[:count], [*starts[1:count], len(frame)], strict=True):
        length = _unpacked(frame[start:end], most=pixels + 2)
        if not pixels <= length <= pixels + 2:
            more = "more" if length > pixels else "no more"
            raise ImageError(
                f"{name} has a compressed part that unpacks to {more} than {length:,} bytes; needed "
                f"{pixels:,}: export it anew"
            )


def _unpacked(segment: bytes, most: int) -> int:
    """Return the bytes that an RLE segment unpacks to; counting stops beyond ``most``."""
    place = length = 0
    while place < len(segment) and length <= most:
        said = segment[place]
        literal = said + 1 if said < 128 else 0
        length += literal or (257 - said if said > 128 else 0)
        place += 1 + (literal or said > 128)
    return length


def _size_of(frame: bytes) -> tuple[int, int] | None:
    """Return width and height as a compressed picture says them; None where that cannot be read."""
    import PIL.Image

    if frame[:2] == b"\xff\xd8" and (found := _lossless_size(frame)):
        return found
    try:
        with PIL.Image.open(io.BytesIO(frame), formats=("JPEG", "JPEG2000")) as header:
            return header.size
    except Exception:  # of any kind, on bytes that may be anything; the decoder then says what is wrong
        return None


def _lossless_size(frame: bytes) -> tuple[int, int] | None:
    """Return width and height of a JPEG of any process, JPEG-LS among them."""
    place = 2
    while place + 9 <= len(frame) and frame[place] == 0xFF:
        marker, (length,) = frame[place + 1], struct.unpack_from(">H", frame, place + 2)
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            height, width = struct.unpack_from(">HH", frame, place + 5)
            return width, height
        place += 2 + length
    return None
