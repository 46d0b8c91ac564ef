"""Features on disk, under the content of everything that decides them; a changed input is never served.

A key folder stands for a treatment: weights, structure, arm, preprocessing, libraries. In it lie parts, each
the features of a chunk of images in order, named by the digest of their contents:

    <cache>/<key>/part-00003-<digest of the images' bytes>.safetensors

A part is sealed: it says of what treatment and of which images it is, and a digest of that, of its names and
of every number stands in it. One that is damaged, incomplete, renamed, or copied from another treatment is
computed again. A part appears under its name only when it is whole, so a run that was killed at any moment
goes on with the first part that is missing, and ends with the same files, byte for byte. Two runs may use one
cache at the same time: each writes under a hidden name of its own. When an image changes, its part's digest
changes, and that part alone is computed again.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from ttr.backbones.base import Backbone
from ttr.digests import sha256, sha256_of
from ttr.files import clear_abandoned, load_tensors, save_tensors, write_json
from ttr.forward.preprocessing import Preprocessing
from ttr.registers.arms import Arm

SCHEMA = "ttr.features/1"
LIBRARIES = ("torch", "timm", "open_clip_torch", "pillow", "numpy")


class _Header(BaseModel):
    """What a part's file says besides its arrays."""

    model_config = ConfigDict(strict=True)

    names: list[str]
    skipped: dict[str, str]


@dataclass(frozen=True)
class Part:
    """The features of one chunk of images.

    Attributes:
        arrays: {feature: float32 [n, D]}, one row a readable image, in order.
        names: of those n images.
        skipped: {name: reason} of the unreadable ones.
    """

    arrays: dict[str, np.ndarray]
    names: tuple[str, ...]
    skipped: dict[str, str]


def cache_key(
    backbone: Backbone, arm: Arm, preprocessing: Preprocessing, device: str | None = None
) -> dict[str, Any]:
    """Return everything but the images that decides their features, as JSON values.

    ``device`` is the kind that computes them; None: the one where the backbone is.
    """
    device = device or backbone.device.type
    return {
        "schema": SCHEMA,
        "backbone": backbone.name,
        "fingerprint": backbone.fingerprint,
        "pooling": backbone.pooling,
        "arm": arm.fingerprint,
        "preprocessing": preprocessing.fingerprint,
        "device": device,
        "autocast": _autocast(device),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
    }


def _autocast(device: str) -> str | None:
    """Return the type to which autocast narrows what is computed on a kind of device now, or None."""
    return str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else None


def digest_of(hashes: list[str]) -> str:
    """Return the digest of a chunk of images from the hashes of their contents, 24 hex digits."""
    return sha256(["\n".join(hashes)], 24)


@dataclass(frozen=True)
class Shelf:
    """The parts of one treatment: a folder of the cache.

    Attributes:
        folder: where they lie.
    """

    folder: Path

    @classmethod
    def of(cls, cache: Path, key: dict[str, Any]) -> Shelf:
        """Return the shelf of a key, its folder made and its key written beside the parts.

        Raises:
            OutputError: the cache cannot be written.
        """
        folder = cache / sha256_of(key, digits=24)
        if not (folder / "key.json").exists():
            write_json(folder / "key.json", key)
        clear_abandoned(folder)
        return cls(folder)

    def path(self, index: int, digest: str) -> Path:
        """Return where part ``index`` of images with this digest lies, or will."""
        return self.folder / f"part-{index:05d}-{digest}.safetensors"

    def write(self, path: Path, part: Part) -> None:
        """Write a part, whole or not at all; two runs that write it at one time leave one of two equal parts.

        Raises:
            OutputError: the cache cannot be written.
        """
        header = {"schema": SCHEMA, "names": part.names, "skipped": part.skipped}
        save_tensors(path, part.arrays, "part", header, place=self._place(path))

    def read(self, path: Path) -> Part | None:
        """Return a part, or None if it is not there or damaged (it is then computed again)."""
        try:
            arrays, found = load_tensors(path, "part", SCHEMA, "np", place=self._place(path))
            header = _Header.model_validate(found)
        except ValueError:
            return None
        if any(array.shape[:1] != (len(header.names),) for array in arrays.values()):
            return None
        return Part(arrays, tuple(header.names), header.skipped)

    def _place(self, path: Path) -> str:
        """Return what a part is sealed as: its treatment, its number and the digest of its images."""
        return f"{self.folder.name}/{path.stem}"
