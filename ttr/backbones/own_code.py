"""What decides a model's features besides its weights and its modules: settings, and code of its own.

Two models may have the same weights in the same modules and pool otherwise, by an attribute (timm's
``global_pool``) or by a forward that their owner wrote, and edits.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

#: Packages whose code is known by its version.
LIBRARIES = {"builtins", "torch", "torchvision", "timm", "open_clip", "transformers", "monai", "ttr"}

#: Attributes that decide nothing of what a model computes for us: its mode, where it was loaded from.
PASSING = {"training", "name_or_path"}


def own_settings(model: nn.Module) -> dict[str, Any]:
    """Return the plain values that a model keeps as its attributes."""
    plain = (bool, int, float, str, type(None))
    return {
        name: value
        for name, value in sorted(vars(model).items())
        if isinstance(value, plain) and name not in PASSING and not name.startswith("_")
    }


def own_code(model: nn.Module) -> list[str]:
    """Return the source of a model's classes that are of no library; of one without a file, its name."""
    kinds = [kind for kind in type(model).__mro__ if kind.__module__.partition(".")[0] not in LIBRARIES]
    return [_source(kind) for kind in kinds]


def _source(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):  # typed into an interpreter
        return kind.__qualname__
