"""The one place that opens picture files: which formats there are, and what is refused before it is decoded.

Everything here is known from a file's header: its format, its size, how many pages it has, and how much its
tags claim. What comes out is a picture of the library that is decoded by whoever asks for its pixels.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ttr.datasets.limits import MOST_BYTES, MOST_PIXELS, check_size, no_memory
from ttr.datasets.quiet import quiet
from ttr.datasets.tiff_directories import (
    COMPLEX,
    MARKS,
    SAMPLE_FORMAT,
    TILE_LENGTH,
    TILE_WIDTH,
    Directory,
    check_exif,
    check_tags,
    directories,
    exif_of_jpeg,
)
from ttr.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

#: The picture formats that are read, as the library calls them. None starts another program.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})
KINDS = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES)) + " or DICOM"
ORIENTATION = 0x0112


@contextmanager
def opened(
    path: Path, content: bytes | None = None, most_pixels: int = MOST_PIXELS, page: int | None = None
) -> Iterator[Image]:
    """Yield a picture file's image, its header checked and its pixels not yet decoded.

    Whatever goes wrong until the block ends, decoding too, becomes one sentence that names the file.

    Args:
        path: the file, for messages and, without ``content``, to read.
        content: its bytes, where they were read already.
        most_pixels: refuse more than these.
        page: which page of a TIFF file, from 1 on; None: the file holds a single image.

    Raises:
        ImageError: no picture of :data:`FORMATS`, damaged, several pages or no such, too large, or a strip.
    """
    import PIL.Image

    try:
        with path.open("rb") if content is None else io.BytesIO(content) as stream:
            places = _checked_tags(path, stream, most_pixels, page or 1)
            with quiet():
                image = PIL.Image.open(stream, formats=FORMATS)
            with image:
                if page is not None and page > 1:
                    image.seek(_place(path, places, page))
                check_size(path, image.width, image.height, most_pixels)
                if page is None:
                    _check_single(path, len(places) or _frames(image))
                yield image
    except PIL.UnidentifiedImageError:
        raise ImageError(f"{path} is not an image that can be read; needed {KINDS}") from None
    except PIL.Image.DecompressionBombError as error:
        pixels = int((re.findall(r"\d+", str(error)) or [2 * most_pixels])[0])
        raise ImageError(
            f"{path} has too many pixels to open safely ({pixels:,}); needed "
            f"{most_pixels / 1e6:,.0f} million at most: scale it down first"
        ) from None
    except MemoryError:
        raise no_memory(path) from None
    except ImageError:
        raise
    except Exception as error:  # a library's words may repeat what stands in the file
        if "MAX_TEXT" in str(error):
            raise ImageError(
                f"{path} holds texts or a profile that unpack to over 1 MB each or 64 in all; save it anew"
            ) from None
        raise ImageError(f"{path} is damaged or truncated; replace it or leave it out") from None


def upright(name: object, image: Image) -> Image:
    """Return a picture as its EXIF says that it is to be seen."""
    from PIL.Image import Transpose

    exif, text = image.info.get("exif"), image.info.get("Raw profile type exif")
    if exif is None and text:
        exif = bytes.fromhex("".join(text.split("\n")[3:]))
    if exif:
        check_exif(name, exif)
    with quiet():
        said: Any = image.getexif().get(ORIENTATION)
    turns = (
        *(Transpose.FLIP_LEFT_RIGHT, Transpose.ROTATE_180, Transpose.FLIP_TOP_BOTTOM, Transpose.TRANSPOSE),
        *(Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90),
    )
    return image.transpose(turns[said - 2]) if said in range(2, 9) else image


def pages_of(content: bytes) -> int:
    """Return how many pages a TIFF file holds, 1 for any other; nothing is decoded."""
    return max(1, sum(each.page or not place for place, each in enumerate(directories(io.BytesIO(content)))))


def _place(path: Path, places: list[int], page: int) -> int:
    if page > len(places):
        raise ImageError(f"{path} holds {len(places) or 1:,} pages; needed one of them, not page {page:,}")
    return places[page - 1]


def _checked_tags(path: Path, stream: BinaryIO, most_pixels: int, page: int) -> list[int]:
    """Check what a library would follow up to a page; return which directories of a TIFF file are pages.

    Nothing for other formats.
    """
    length = stream.seek(0, io.SEEK_END)
    if length > MOST_BYTES:
        raise ImageError(f"{path} has {length / 1e6:,.0f} MB; needed {MOST_BYTES / 1e6:,.0f} MB at most")
    stream.seek(0)
    start = stream.read(4)
    pages: list[int] = []
    if start in MARKS:
        for place, found in enumerate(directories(stream)):
            if len(pages) < page:
                _check_directory(path, found, length, most_pixels)
            if found.page or not place:
                pages.append(place)
    elif start[:2] == b"\xff\xd8":
        check_exif(path, exif_of_jpeg(stream))
    stream.seek(0)
    return pages


def _check_directory(path: Path, found: Directory, length: int, most_pixels: int) -> None:
    check_tags(path, found, length)
    if found.numbers.get(SAMPLE_FORMAT) in COMPLEX:
        raise ImageError(f"{path} holds complex numbers; needed grey or colours: save the part that you mean")
    tile = found.numbers.get(TILE_WIDTH, 1), found.numbers.get(TILE_LENGTH, 1)
    if tile[0] * tile[1] > most_pixels:
        raise ImageError(
            f"{path} is stored in tiles of {tile[0]:,} × {tile[1]:,} pixels; needed "
            f"{most_pixels / 1e6:,.0f} million at most: save it anew"
        )


def _frames(image: Image) -> int:
    """Return how many pictures follow each other; those that come along with a JPEG are not counted."""
    return getattr(image, "n_frames", 1) if image.format in ("PNG", "WEBP") else 1


def _check_single(path: Path, pages: int) -> None:
    if pages > 1:
        raise ImageError(
            f"{path} holds {pages:,} pages; needed a single image: save the page you mean as its own file"
        )
