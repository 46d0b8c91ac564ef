"""How large a file may be and how much may come out of it, said in numbers before anything is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ttr.errors import ImageError
from ttr.files import regular_file

#: Bytes of a file: no single image is larger.
MOST_BYTES = 2**30
#: Pixels of an image, as stored and after its pixels were made square.
MOST_PIXELS = 90_000_000
#: Longer over shorter side. A model resizes the shorter one, so a longer strip would grow without measure.
MOST_ELONGATED = 50
#: Bytes that a pixel may unpack to (three colours of 16 bits); a file's other contents are far less.
MOST_BYTES_A_PIXEL = 6


def file_bytes(path: Path, what: str = "image") -> bytes:
    """Return a file's bytes; refusals are :func:`image_file`'s."""
    with image_file(path, what) as file:
        return file.read()


@contextmanager
def image_file(path: Path, what: str = "image") -> Iterator[BinaryIO]:
    """Yield a file, open for reading; a pipe or a device is not waited for.

    Raises:
        ImageError: it cannot be read, is no regular file, or is larger than any single image.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            most = MOST_BYTES / 1e6
            raise ImageError(f"{what} {path} has {size / 1e6:,.0f} MB; needed {most:,.0f} MB at most")
        with regular_file(path, MOST_BYTES) as file:
            yield file
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{what} {path} cannot be read ({why}); check the path") from error


def check_size(name: object, width: int, height: int, most: int = MOST_PIXELS) -> None:
    """Raise ImageError for too many pixels, or a strip that resizing would make too many of."""
    if width < 1 or height < 1:
        raise ImageError(f"{name} has {width:,} × {height:,} pixels; needed 1 on each side at least")
    if width * height > most:
        raise ImageError(
            f"{name} has too many pixels to open safely ({width:,} × {height:,}); needed "
            f"{most / 1e6:,.0f} million at most: scale it down first"
        )
    longer, shorter = max(width, height), min(width, height)
    if longer > MOST_ELONGATED * shorter:
        raise ImageError(
            f"{name} has {width:,} × {height:,} pixels, one side {longer / shorter:,.0f} times the other; "
            f"needed {MOST_ELONGATED} times at most: cut it first"
        )


def check_resized(name: object, width: int, height: int, side: int) -> None:
    """Raise ImageError where an image whose shorter side becomes ``side`` would have too many pixels."""
    check_size(name, width, height)
    longer = round(side * max(width, height) / min(width, height))
    if longer * side > MOST_PIXELS:
        raise ImageError(
            f"{name} of {width:,} × {height:,} pixels would be resized to {side:,} × {longer:,}; needed "
            f"{MOST_PIXELS / 1e6:,.0f} million pixels at most: cut it first"
        )


def no_memory(name: object) -> ImageError:
    """Return the refusal of a file that needs more memory than there is."""
    return ImageError(f"{name} needs more memory to open than this machine has; scale it down first")
