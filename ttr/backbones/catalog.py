"""The catalog: published checkpoints as data (``catalog.json``), and the presets made for them.

A catalog name is a short way to write a timm, open_clip or transformers name; loading stays theirs. Presets
are register neurons that others published (``checkpoints/``). They are specific to a resolution and an image
set; detection on one's own images is better.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ttr.errors import NeuronsError

HERE = Path(__file__).resolve().parent
PRESETS = HERE.parent / "checkpoints"
WEIGHT_FILES = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)


@dataclass(frozen=True)
class Entry:
    """One published checkpoint.

    Attributes:
        name: short name, such as ``dinov2-vit-l-14``.
        loads: the name behind it, ``timm:...``, ``open_clip:...`` or ``transformers:...``.
        hub: repository that the library fetches the weights from.
        family: ``timm``, ``open_clip`` or ``transformers``.
        embedding: size of the global feature that ``Backbone.embed`` returns.
        image_size: native side of the input in pixels.
        patch_size: side of a patch in pixels.
        registers: trained registers.
        licence: of the weights.
        source: who trained it, on what.
        preprocessing: how its library prepares an image: what is resized to ``image_size``, interpolation,
            crop, mean and SD of each channel (0..1). For information; loading brings the library's own.
        detection: published detection settings with their source, or None.
        preset: file in ``checkpoints/``, or None.
    """

    name: str
    loads: str
    hub: str
    family: str
    embedding: int
    image_size: int
    patch_size: int
    registers: int
    licence: str
    source: str
    preprocessing: dict[str, Any]
    detection: dict[str, Any] | None
    preset: str | None

    def is_cached(self) -> bool:
        """Return whether the weights lie in the local cache of the hub client."""
        from huggingface_hub import try_to_load_from_cache

        return any(isinstance(try_to_load_from_cache(self.hub, file), str) for file in WEIGHT_FILES)


@cache
def catalog() -> dict[str, Entry]:
    """Return the catalog, {name: entry}, in its order."""
    rows = json.loads((HERE / "catalog.json").read_text(encoding="utf-8"))
    return {row["name"]: Entry(**row) for row in rows}


def architecture(name: str) -> str:
    """Return a backbone's name without its weights' tag: two names of one architecture become equal."""
    name = catalog()[name].loads if name in catalog() else name
    library, _, rest = name.partition(":")
    if library == "timm":
        return f"timm:{rest.split('.')[0]}"
    if library == "open_clip" and not rest.startswith("hf-hub:"):
        return f"open_clip:{rest.split('/')[0]}"
    if (
        library == "transformers" and rest.count("/") != 1
    ):  # no ORG/NAME: a directory is called by its own name
        return f"transformers:{rest.rstrip('/').rpartition('/')[2]}"
    return name


def preset_for(name: str) -> Path | None:
    """Return the preset for a backbone of this name, or None; another tag's weights have other neurons.

    A name without a tag gets its architecture's preset: its weights may come from a file.
    """
    own = catalog()[name].loads if name in catalog() else name
    for entry in catalog().values():
        if entry.preset and own in (entry.loads, architecture(entry.loads)):
            return PRESETS / entry.preset
    return None


def published_neurons(name: str) -> Path:
    """Return the register neurons published under a name, such as ``dinov2-vit-l-14-natural``.

    Raises:
        NeuronsError: none are.
    """
    known = sorted(path.stem for path in PRESETS.glob("*.json"))
    if name not in known:
        raise NeuronsError(f"no register neurons are published as {name!r}; needed one of {', '.join(known)}")
    return PRESETS / f"{name}.json"
