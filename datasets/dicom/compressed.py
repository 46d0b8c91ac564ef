"""Compressed pixels of a DICOM file: what decodes them here, and what they would unpack to.

A decoder is asked for nothing that the file's own numbers do not announce: sides, colours and bits as they
stand in the compressed picture are compared with those of the file first, and a picture that ends early is
refused, since some decoders would fill it up with grey.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

from ttr.datasets.tiff_directories import check_exif, exif_of_jpeg
from ttr.errors import ImageError
from ttr.wording import install

RLE = "1.2.840.10008.1.2.5"
JPEG = "1.2.840.10008.1.2.4."
#: What decodes which syntax, the first that is there; others that are there decode what none of these does.
DECODERS = {
    **dict.fromkeys((f"{JPEG}50", f"{JPEG}51"), ("pillow",)),
    **dict.fromkeys((f"{JPEG}57", f"{JPEG}70", f"{JPEG}80", f"{JPEG}81"), ("gdcm",)),
    **dict.fromkeys((f"{JPEG}90", f"{JPEG}91"), ("pylibjpeg", "pillow")),
    **dict.fromkeys((f"{JPEG}201", f"{JPEG}202", f"{JPEG}203"), ("pylibjpeg",)),
    RLE: ("pydicom",),
}
JPEG_START, J2K_START, PICTURE_END = b"\xff\xd8", b"\xff\x4f\xff\x51", b"\xff\xd9"
#: Of these the decoders read no more bits.
EIGHT_BITS = (f"{JPEG}50", f"{JPEG}51")
INSTALL, UNPACKED = install("dicom"), "export it uncompressed"


@dataclass(frozen=True)
class Measures:
    """What a picture unpacks to, as the file says it or as the compressed picture does."""

    columns: int
    rows: int
    samples: int
    bits: int


def decoder_of(name: object, syntax: str, said: Measures) -> str:
    """Return the decoder of a transfer syntax that is here.

    Raises:
        ImageError: there is none; it names the syntax and what brings a decoder.
    """
    from pydicom.pixels import get_decoder

    called = name_of(syntax)
    try:
        there = get_decoder(syntax).available_plugins
    except NotImplementedError:
        raise ImageError(
            f"{name} is compressed as {called}, which is not decoded here; needed JPEG, JPEG-LS, JPEG 2000, "
            "RLE or none: export it uncompressed"
        ) from None
    deep_jpeg = syntax in EIGHT_BITS and said.bits > 8
    if deep_jpeg:
        there = tuple(set(there) - {"pillow", "gdcm"})
    elif (said.samples > 1 and said.bits > 8) or said.bits > 16:
        there = tuple(set(there) - {"pillow"})
    for wanted in (*DECODERS.get(syntax, ()), *sorted(there)):
        if wanted in there:
            _quieten(wanted)
            return wanted
    what, remedy = (f" in {said.bits} bits", UNPACKED) if deep_jpeg else ("", f"{INSTALL}, or {UNPACKED}")
    raise ImageError(
        f"{name} is compressed as {called}{what}, and nothing that decodes it is installed; {remedy}"
    )


def name_of(syntax: str) -> str:
    """Return what the standard calls a transfer syntax, with its number; never a file's own words."""
    from pydicom.uid import UID

    found = UID(syntax, validation_mode=0)
    known = found.type == "Transfer Syntax"
    return f"{found.name.partition(' (')[0]} ({syntax})" if known else "an unknown syntax"


def _quieten(decoder: str) -> None:
    if decoder == "gdcm":
        import gdcm

        for silence in (gdcm.Trace.DebugOff, gdcm.Trace.WarningOff, gdcm.Trace.ErrorOff):
            silence()


def checked(name: object, syntax: str, frame: bytes, said: Measures) -> tuple[bytes, Measures]:
    """Return the compressed picture of one frame, checked to be what the file says it is, and what it says.

    Raises:
        ImageError: other sides, colours or bits, no picture of its kind, or one that ends early.
    """
    if syntax == RLE:
        _check_segments(name, frame, said.columns * said.rows, said.samples * said.bits // 8)
        return frame, said
    if syntax not in DECODERS:
        return frame, said
    if (place := frame.find(J2K_START)) > 0 and frame[:2] != JPEG_START:
        frame = frame[place:]  # without the boxes of a file of its own, which may hold a palette and more
    if frame[:2] == JPEG_START:
        check_exif(name, exif_of_jpeg(io.BytesIO(frame)))
    found = _measures(frame)
    if found is None:
        raise ImageError(
            f"{name} cannot be decoded: what is compressed in it is no {name_of(syntax)}; get it again"
        )
    if (found.columns, found.rows) != (said.columns, said.rows):
        raise ImageError(
            f"{name} says that it has {said.columns:,} × {said.rows:,} pixels, and {found.columns:,} × "
            f"{found.rows:,} are compressed in it; export it anew"
        )
    if found.samples != said.samples or not 1 <= found.bits <= said.bits:
        raise ImageError(
            f"{name} says that it holds {said.samples:,} values of {said.bits:,} bits a pixel, and "
            f"{found.samples:,} of {found.bits:,} are compressed in it; export it anew"
        )
    if PICTURE_END not in frame[-32:]:
        raise ImageError(f"{name} cannot be decoded: what is compressed in it ends early; get it again")
    return frame, found


def _measures(frame: bytes) -> Measures | None:
    """Return what a compressed picture says of itself; None where that cannot be read."""
    try:
        return _of_jpeg2000(frame) if frame.startswith(J2K_START) else _of_jpeg(frame)
    except (struct.error, IndexError):
        return None


def _of_jpeg2000(frame: bytes) -> Measures | None:
    """Return what stands in the header of a JPEG 2000 picture, high-throughput or not."""
    right, bottom, left, top = struct.unpack_from(">4L", frame, 8)
    (samples,) = struct.unpack_from(">H", frame, 40)
    parts = [struct.unpack_from("3B", frame, 42 + 3 * index) for index in range(min(samples, 4))]
    # Colours of lower resolution, or of bits of their own, have no place in a DICOM image.
    if not parts or any(part != parts[0] for part in parts) or parts[0][1:] != (1, 1):
        return None
    return Measures(right - left, bottom - top, samples, (parts[0][0] & 0x7F) + 1)


def _of_jpeg(frame: bytes) -> Measures | None:
    """Return what stands in the header of a JPEG of any process, JPEG-LS among them."""
    place = 2 if frame[:2] == JPEG_START else len(frame)
    while place + 9 <= len(frame) and frame[place] == 0xFF:
        marker, (length,) = frame[place + 1], struct.unpack_from(">H", frame, place + 2)
        if marker == 0xFF:  # may fill up before any marker
            place += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            bits, rows, columns, samples = struct.unpack_from(">BHHB", frame, place + 4)
            return Measures(columns, rows, samples, bits)
        place += 2 + length
    return None


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
