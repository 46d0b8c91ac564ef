"""Small files that would become large ones, or that say what is not so: each a few lines of bytes."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

#: Tags of a grey TIFF image of 32 x 32 bytes whose pixels begin at byte 8.
TIFF_TAGS = [
    *((256, 4, 1, 32), (257, 4, 1, 32), (258, 3, 1, 8), (262, 3, 1, 1)),
    *((273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, 32), (279, 4, 1, 1024)),
]
PIXELS = b"II*\0" + struct.pack("<L", 8 + 1024) + bytes(1024)
SEQUENCE = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff"
ITEM, ITEM_WITHOUT_END = b"\xfe\xff\x00\xe0\0\0\0\0", b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n%%EOF\n"


def chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """Return a black-and-white PNG whose pixels end after a row: only its header says how large it is."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(1 + (width + 7) // 8)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def directory(tags: list[tuple[int, int, int, int]], following: int = 0) -> bytes:
    """Return a directory of a TIFF file."""
    entries = b"".join(struct.pack("<HHLL", *tag) for tag in tags)
    return struct.pack("<H", len(tags)) + entries + struct.pack("<L", following)


def tiff(*tags: tuple[int, int, int, int], content: bytes = b"") -> bytes:
    """Return a grey TIFF of 32 x 32 pixels; tags of the same number are replaced."""
    kept = [tag for tag in TIFF_TAGS if tag[0] not in {given[0] for given in tags}]
    return PIXELS + directory(sorted([*kept, *tags])) + content


def overlapping(count: int = 500, length: int = 20_000) -> bytes:
    """Return EXIF data whose tags all point at the same bytes: count x length bytes to whoever reads them."""
    tags = [(40_000 + number, 1, length, 12 * count + 14) for number in range(count)]
    return b"II*\0" + struct.pack("<L", 8) + directory(tags) + bytes(length)


def jpeg(exif: bytes) -> bytes:
    """Return a JPEG with EXIF data in as many segments as it takes."""
    plain = saved(Image.new("RGB", (32, 32)), "JPEG")
    parts = [exif[start : start + 60_000] for start in range(0, len(exif), 60_000)]
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\0\0" + part for part in parts)
    return plain[:2] + segments + plain[2:]


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return an image as a file's bytes."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def number_tiff(value: float) -> bytes:
    """Return a TIFF of floats, one of which is ``value``."""
    pixels = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    pixels[3, 4] = value
    return saved(Image.fromarray(pixels), "TIFF")


def rle(*segments: bytes) -> bytes:
    """Return an RLE frame of DICOM with its segments beside each other."""
    starts = [64 + sum(map(len, segments[:index])) for index in range(len(segments))]
    return struct.pack("<16L", len(segments), *starts, *[0] * (15 - len(segments))) + b"".join(segments)


def after_meta(content: bytes) -> int:
    """Return where the data set of a DICOM file begins."""
    return 132 + 12 + struct.unpack_from("<L", content, 140)[0]


def deflated(content: bytes, data: bytes | None = None) -> bytes:
    """Return an explicit DICOM file with its data set (or ``data`` in its place) deflated."""
    place = after_meta(content)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = packer.compress(content[place:] if data is None else data) + packer.flush()
    syntax = b"1.2.840.10008.1.2.1\0"
    meta = content[:place].replace(b"UI\x14\0" + syntax, b"UI\x16\0" + b"1.2.840.10008.1.2.1.99")
    assert len(meta) == place + 2
    longer = struct.pack("<L", struct.unpack_from("<L", meta, 140)[0] + 2)
    return meta[:140] + longer + meta[144:] + body
