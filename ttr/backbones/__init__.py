"""Backbones: adapt a model from memory, load one by name, plant register neurons in a random one.

Importing it is light, so that a name is looked at before torch is; what it names loads when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ttr.backbones.base import Backbone, Sites, Weights
    from ttr.backbones.families import adapt
    from ttr.backbones.loading import load
    from ttr.backbones.phantoms.planting import plant

_HOME = {
    **dict.fromkeys(("Backbone", "Sites", "Weights"), "base"),
    **{"adapt": "families", "load": "loading", "plant": "phantoms.planting"},
}

__all__ = ["Backbone", "Sites", "Weights", "adapt", "load", "plant"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"ttr.backbones.{_HOME[name]}"), name)
