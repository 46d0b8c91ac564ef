"""The images in a folder of this machine and below it, those in its tar files included, in a fixed order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ttr.datasets.dicom.files import SUFFIXES as DICOM
from ttr.datasets.dicom.files import frame_paths, is_dicom
from ttr.datasets.folder import is_image, is_visible
from ttr.datasets.opening import KINDS, SUFFIXES
from ttr.datasets.places.listing import Listing
from ttr.datasets.places.tars import SUFFIX, members
from ttr.errors import ImageError
from ttr.files import regular_file


def is_named_as_image(path: str) -> bool:
    """Return whether a path is an image's by its names alone: a known suffix, and no hidden part."""
    parts = PurePosixPath(path).parts
    suffix = PurePosixPath(path).suffix.lower()
    return bool(parts) and all(map(is_visible, parts)) and (suffix in SUFFIXES or suffix in DICOM)


def folder_listing(folder: Path) -> Listing:
    """Return the images of a folder, folder by folder, each sorted by name.

    A tar file stands for the images in it, a DICOM file of several frames for its frames.

    Raises:
        ImageError: there is none, one of the folders cannot be read, or a tar file is damaged.
    """
    found = Listing(str(folder))
    for name in _files(folder):
        path = folder / name
        if name.lower().endswith(SUFFIX):
            _add_tar(found, path, name)
        elif is_image(path):
            for frame in frame_paths(path) if is_dicom(path) else [path]:
                found.add(name + frame.name.removeprefix(path.name), path.stat().st_size)
    if not len(found):
        raise ImageError(f"no images found in {folder}; needed {KINDS} files, or tar files of them")
    return found


def file_listing(path: Path) -> Listing:
    """Return the images of a single file: those in a tar file, the frames of a DICOM file, or itself.

    Raises:
        ImageError: it is none of these.
    """
    found = Listing(str(path.parent))
    if path.name.lower().endswith(SUFFIX):
        _add_tar(found, path, path.name)
    elif is_image(path):
        for frame in frame_paths(path):
            found.add(frame.name, path.stat().st_size)
    if not len(found):
        raise ImageError(f"{path} holds no image; needed {KINDS}, a tar file or a table of them, or a folder")
    return found


def _add_tar(found: Listing, path: Path, name: str) -> None:
    try:
        with regular_file(path, 1 << 62) as file:
            found.add_archive(str(path), members(file, name, is_named_as_image))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{path} cannot be read ({why}); check the path") from error


def _files(folder: Path) -> Iterator[str]:
    """Yield the visible files below a folder, by their paths below it."""

    def refuse(error: OSError) -> None:
        raise ImageError(f"folder {error.filename} cannot be read ({error.strerror}); no image may be missed")

    for here, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(filter(is_visible, folders))
        below = Path(here).relative_to(folder).as_posix()
        for name in sorted(filter(is_visible, files)):
            yield name if below == "." else f"{below}/{name}"
