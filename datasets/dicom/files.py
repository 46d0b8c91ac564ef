"""Which files are DICOM's, and what its frames are called: ``cine.dcm#3`` is the third of ``cine.dcm``."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ttr.datasets.dicom.elements import FileView, frames, starts_like_dicom
from ttr.datasets.dicom.frames import single_frame
from ttr.datasets.dicom.pixels import MOST_FRAMES
from ttr.datasets.limits import file_bytes, image_file
from ttr.errors import ImageError

SUFFIXES = frozenset({".dcm", ".dicom"})
ADDRESS = re.compile(r"(.+)#([1-9]\d{0,8})", re.DOTALL)


def is_dicom(path: Path) -> bool:
    """Return whether a file is DICOM: by its suffix, or, without any, by how it starts."""
    if path.suffix.lower() in SUFFIXES:
        return True
    if path.suffix and not path.suffix[1:].isdigit():
        return False
    try:
        with path.open("rb") as file:
            return starts_like_dicom(file.read(132))
    except OSError:
        return False


def addressed(path: Path) -> tuple[Path, int | None]:
    """Return the file that a path names and which of its frames, from 1 on; None: the path names no frame."""
    named = ADDRESS.fullmatch(path.name)
    if named is None or os.path.lexists(path):
        return path, None
    return path.with_name(named[1]), int(named[2])


def frame_path(path: Path, frame: int) -> Path:
    """Return the path that names a frame of a file, from 1 on."""
    return path.with_name(f"{path.name}#{frame}")


def frame_paths(path: Path) -> list[Path]:
    """Return the paths of a file's frames in their order, or its own where it holds a single image.

    Nothing is decoded. What cannot be read stands as one image, which is refused where it is opened.
    """
    count = 1
    if is_dicom(path):
        try:
            with image_file(path) as file:
                count = frames(FileView(file))
        except ImageError:
            pass
    return [frame_path(path, n) for n in range(1, count + 1)] if 1 < count <= MOST_FRAMES else [path]


def image_bytes(path: Path) -> bytes:
    """Return the bytes that decide an image's pixels: its file's, or of a frame those of a file of its own.

    Raises:
        ImageError: it cannot be read, is larger than any image, or has no such frame.
    """
    file, frame = addressed(path)
    if frame is None:
        return file_bytes(path)
    if not is_dicom(file):
        raise ImageError(f"{path} names a frame, which only a DICOM file has; leave #{frame} out")
    with image_file(file) as stream:
        return single_frame(path, FileView(stream), frame)
