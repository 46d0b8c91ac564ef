"""Let torchvision import beside a PyTorch that its compiled library was not built for.

The package index serves a torchvision that is linked to CUDA. Beside a CPU torch its library does not load
and its import dies on the missing schema of ``torchvision::nms``, though nothing that timm and open_clip use
of it (transforms in pure Python) needs the operator. Declaring the schema is enough; where torchvision's
library loads, this does nothing.

``import ttr`` arranges that this happens right before torchvision is first imported, by whomever, and costs
nothing until then: so ``import ttr`` before ``import timm`` is all that a script on such a machine needs.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_kept_alive: list[Any] = []


class BeforeTorchvision(MetaPathFinder):
    """Finds nothing; declares the operators when somebody starts to import torchvision, once."""

    def __init__(self) -> None:
        self.done = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return None, so that the import goes on as it would."""
        if fullname == "torchvision" and not self.done:
            self.done = True
            declare_missing_operators()
        return None


def declare_before_torchvision() -> None:
    """Arrange the declaration for the first import of torchvision; calling it twice does no harm."""
    arranged = any(isinstance(finder, BeforeTorchvision) for finder in sys.meta_path)
    if "torchvision" not in sys.modules and not arranged:
        sys.meta_path.insert(0, BeforeTorchvision())


def declare_missing_operators() -> None:
    """Declare ``torchvision::nms`` and ``qnms`` if no compiled torchvision library can be loaded."""
    if _kept_alive or _library_loads():
        return
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept_alive.append(library)


def _library_loads() -> bool:
    import torch

    if hasattr(torch.ops.torchvision, "nms"):
        return True
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    for library in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue
        if hasattr(torch.ops.torchvision, "nms"):
            return True
    return False
