"""Ablations without names: the images of folders that were read, numbered for a page that names nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ttr.studies.ablate.folder import Folder

NUMBERED = re.compile(r"image \d+")


def without_names(folders: Sequence[Folder]) -> list[Folder]:
    """Return the folders with their images called ``image 1``, ``image 2``, ... in the order they appear in.

    An image has one number in all of them, and one that is numbered already (``--anonymous``) keeps it.
    """
    names = list(dict.fromkeys(name for folder in folders for name in _names(folder)))
    if all(NUMBERED.fullmatch(name) for name in names):
        return list(folders)
    numbers = {name: f"image {number}" for number, name in enumerate(names, start=1)}
    return [_renamed(folder, numbers) for folder in folders]


def _names(folder: Folder) -> Iterator[str]:
    if folder.pictures is not None:
        yield from folder.pictures.images
        galleries = (*folder.pictures.nearest, *folder.pictures.nearest_mean)
        yield from (patch["image"] for patches in galleries for patch in patches)
    yield from folder.manifest["dataset"].get("skipped", {})


def _renamed(folder: Folder, numbers: dict[str, str]) -> Folder:
    dataset, pictures = folder.manifest["dataset"], folder.pictures
    skipped = {numbers[name]: "could not be read" for name in dataset.get("skipped", {})}
    if pictures is not None:
        nearest, of_mean = (
            [[{**patch, "image": numbers[patch["image"]]} for patch in row] for row in gallery]
            for gallery in (pictures.nearest, pictures.nearest_mean)
        )
        images = [numbers[name] for name in pictures.images]
        pictures = replace(pictures, images=images, nearest=nearest, nearest_mean=of_mean)
    manifest = {**folder.manifest, "dataset": {**dataset, "skipped": skipped}}
    return replace(folder, manifest=manifest, pictures=pictures)
