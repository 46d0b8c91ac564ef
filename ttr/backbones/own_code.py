"""What decides a model's features besides its weights and its modules: settings, and code of its own.

Two models may have the same weights in the same modules and pool otherwise, by an attribute (timm's
``global_pool``) or by a forward that their owner wrote, and edits.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

from torch import nn

#: Packages whose code is known by its version.
LIBRARIES = {"builtins", "torch", "torchvision", "timm", "open_clip", "transformers", "monai", "ttr"}

#: Attributes that decide nothing of what a model computes for us: its mode, where it was loaded from, by
#: which version, and what a wrap sets while it stands.
PASSING = {"training", "name_or_path", "_name_or_path", "transformers_version", "num_prefix_tokens"}
PLAIN = (bool, int, float, str, type(None))


def own_settings(model: nn.Module) -> dict[str, Any]:
    """Return the plain values that a model and its modules keep as attributes, and those of its config."""
    found: dict[str, Any] = {}
    for place, module in model.named_modules():
        held = {name: value for name, value in vars(module).items() if not name.startswith("_")}
        config: Any = held.get("config")
        held |= config.to_dict() if hasattr(config, "to_dict") and not place else {}
        found |= {
            f"{place}.{name}": value
            for name, value in sorted(held.items())
            if name not in PASSING and all(isinstance(x, PLAIN) for x in _parts(value))
        }
    return found


def _parts(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def own_code(model: nn.Module) -> list[str]:
    """Return the source of its modules' classes that are of no library; of one without a file, its name."""
    kinds = dict.fromkeys(kind for module in model.modules() for kind in type(module).__mro__)
    return [_source(kind) for kind in kinds if kind.__module__.partition(".")[0] not in LIBRARIES]


def runs_library_code(module: nn.Module) -> bool:
    """Return whether a module computes as its library wrote it; of its parts nothing is said."""
    kind: Any = type(module)
    return "forward" not in vars(module) and _of_a_library(kind)


@cache
def _of_a_library(kind: Any) -> bool:
    return kind.forward.__module__.partition(".")[0] in LIBRARIES


def _source(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):  # typed into an interpreter
        return kind.__qualname__
