"""Image files, DICOM among them: list a folder in a stable order, draw a seeded sample, open one as RGB."""

from __future__ import annotations

import io
import random
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ttr.datasets.dicom import is_dicom, open_dicom
from ttr.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")
_reading = threading.Lock()
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})


def list_images(folder: Path, *, limit: int | None = None, seed: int = 42) -> list[Path]:
    """Return the image files under ``folder``, sorted by path; with ``limit``, a seeded sample of them.

    Raises:
        ImageError: no such folder, or no image in it.
    """
    if folder.is_file():
        raise ImageError(f"{folder} is a file; needed a folder with {_kinds()} files")
    if not folder.is_dir():
        raise ImageError(f"image folder {folder} does not exist; give a folder with {_kinds()} files")
    paths = sorted(path for path in folder.rglob("*") if is_image(path))
    if not paths:
        raise ImageError(f"no images found in {folder}; needed {_kinds()} files, in it or below it")
    return draw_sample(paths, limit, seed)


def draw_sample(ordered: Sequence[T], limit: int | None, seed: int) -> list[T]:
    """Return a seeded sample of ``limit`` things in the order given, or all where there are no more."""
    if limit is None or limit >= len(ordered):
        return list(ordered)
    return [ordered[place] for place in sorted(random.Random(seed).sample(range(len(ordered)), limit))]


def is_image(path: Path) -> bool:
    """Return whether a file is one that :func:`open_image` reads, by its name (and DICOM by its mark)."""
    visible = not path.name.startswith(".") and path.is_file()
    return visible and (path.suffix.lower() in SUFFIXES or is_dicom(path))


def open_image(path: str | Path, content: bytes | None = None) -> Image:
    """Open an image file as RGB, whole and upright; DICOM as :mod:`ttr.datasets.dicom` says.

    Greyscale of more than 8 bits is scaled from its own minimum and maximum to 0..255.

    Args:
        path: the file.
        content: its bytes, where they were read already.

    Raises:
        ImageError: no such file, no image, truncated, or too large to be safe.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path(path)
    if content is None and not path.is_file():
        raise ImageError(f"image {path} does not exist; check the path")
    if is_dicom(path):
        return open_dicom(path, content)
    try:
        # Warning filters belong to the whole process, and several threads may be reading.
        with _reading, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(path if content is None else io.BytesIO(content))
        with opened:
            opened.load()
            upright = ImageOps.exif_transpose(opened)
        return to_rgb(upright)
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} is not an image that can be read; needed {_kinds()}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{path} has too many pixels to open safely; scale it down first") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{path} is damaged or truncated ({error}); replace it or leave it out") from error


def to_rgb(image: Image) -> Image:
    """Return an image as RGB: deep greyscale scaled by its own range, transparency laid on black."""
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        import numpy as np
        import PIL.Image

        pixels = np.asarray(image, dtype=np.float64)
        low, high = pixels.min(), pixels.max()
        scaled = (pixels - low) * (255 / (high - low) if high > low else 0)
        image = PIL.Image.fromarray(scaled.round().astype(np.uint8))
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        import PIL.Image

        rgba = image.convert("RGBA")
        image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    return image.convert("RGB")


def _kinds() -> str:
    return ", ".join(sorted(suffix[1:] for suffix in SUFFIXES)) + " or DICOM"
