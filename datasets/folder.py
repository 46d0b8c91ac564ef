"""Image files, DICOM among them: list a folder in a stable order, draw a seeded sample, open one as RGB."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ttr.datasets.dicom.files import addressed, frame_paths, is_dicom
from ttr.datasets.dicom.reading import open_dicom
from ttr.datasets.limits import MOST_PIXELS
from ttr.datasets.opening import KINDS, SUFFIXES, opened, upright
from ttr.errors import ImageError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

T = TypeVar("T")
#: Folders that tools leave beside somebody's own; what they hold are copies, or no pictures.
TOOLS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})


def list_images(folder: Path, *, limit: int | None = None, seed: int = 42) -> list[Path]:
    """Return the images under ``folder``, sorted by file; with ``limit``, a seeded sample of them.

    A DICOM file of several frames counts as its frames, in their order: ``cine.dcm#1``, ``cine.dcm#2``, ...

    Raises:
        ImageError: no such folder, or no image in it.
    """
    if folder.is_file():
        raise ImageError(f"{folder} is a file; needed a folder with {KINDS} files")
    if not folder.is_dir():
        raise ImageError(f"image folder {folder} does not exist; give a folder with {KINDS} files")
    files = images_below(folder)
    if not files:
        raise ImageError(f"no images found in {folder}; needed {KINDS} files, in it or below it")
    return draw_sample([path for file in files for path in frame_paths(file)], limit, seed)


def images_below(folder: Path) -> list[Path]:
    """Return the image files in a folder and the visible folders below it, sorted by path."""
    found: list[Path] = []
    for here, folders, files in os.walk(folder):
        folders[:] = filter(is_visible, folders)
        found += (path for path in map(Path(here).joinpath, files) if is_image(path))
    return sorted(found)


def is_visible(name: str) -> bool:
    """Return whether a folder of this name is somebody's own, and no tool's."""
    return not name.startswith(".") and name not in TOOLS


def draw_sample(ordered: Sequence[T], limit: int | None, seed: int) -> list[T]:
    """Return a seeded sample of ``limit`` things in the order given, or all where there are no more."""
    if limit is None or limit >= len(ordered):
        return list(ordered)
    return [ordered[place] for place in sorted(random.Random(seed).sample(range(len(ordered)), limit))]


def is_image(path: Path) -> bool:
    """Return whether a file is one that :func:`open_image` reads, by its name (and DICOM by its mark).

    A DICOMDIR, the list of what lies on a disc, has the mark and is no image.
    """
    named = not path.name.startswith(".") and path.name.upper() != "DICOMDIR"
    return named and path.is_file() and (path.suffix.lower() in SUFFIXES or is_dicom(path))


def open_image(path: str | Path, content: bytes | None = None, *, most_pixels: int = MOST_PIXELS) -> Image:
    """Open an image file as RGB, whole and upright; DICOM as :mod:`ttr.datasets.dicom.reading` says.

    Greyscale of more than 8 bits is scaled from its own minimum and maximum to 0..255.

    Args:
        path: the file, or a frame of a DICOM file: ``cine.dcm#3``.
        content: the bytes that decide its pixels, where they were read already.
        most_pixels: refuse more than these before anything is decoded.

    Raises:
        ImageError: no such file, no image, truncated, several pages, values that are no numbers, or too
            large to be safe.
    """
    path = Path(path)
    file, frame = addressed(path)
    if content is None and not file.is_file():
        raise ImageError(f"image {path} does not exist; check the path")
    if frame is not None or is_dicom(file):
        return open_dicom(path, content, most_pixels=most_pixels)
    with opened(path, content, most_pixels) as image:
        image.load()
        return to_rgb(upright(path, image), path)


def to_rgb(image: Image, name: object = "the image") -> Image:
    """Return an image as RGB: deep greyscale scaled by its own range, transparency laid on black.

    Raises:
        ImageError: pixels that are no finite numbers, or colours that have no RGB here.
    """
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        import PIL.Image

        image = PIL.Image.fromarray(_scaled(image, name))
    if image.mode in {"RGBA", "RGBa", "LA", "La", "PA"} or "transparency" in image.info:
        import PIL.Image

        rgba = image.convert("RGBA")
        image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    if image.mode == "LAB":
        raise ImageError(f"{name} has LAB colours; needed grey, RGB or CMYK: convert it first")
    return image.convert("RGB")


def _scaled(image: Image, name: object) -> np.ndarray:
    """Return deep grey as uint8 [H, W], from its own minimum and maximum to 0..255."""
    import numpy as np

    pixels = np.asarray(image, dtype=np.float64)
    finite = np.isfinite(pixels)
    if not finite.all():
        raise ImageError(
            f"{name} holds no finite number (NaN or infinite) in {int((~finite).sum()):,} of {pixels.size:,} "
            "pixels; needed numbers alone: replace these, or leave the image out"
        )
    low, high = pixels.min(), pixels.max()
    return ((pixels - low) * (255 / (high - low) if high > low else 0)).round().astype(np.uint8)
