"""Let torchvision import beside a PyTorch that its compiled library was not built for.

The package index serves a torchvision that is linked to CUDA. Beside a CPU torch its library does not load
and its import dies on the missing schema of ``torchvision::nms``, though nothing that timm and open_clip use
of it (transforms in pure Python) needs the operator. Declaring the schema is enough; where torchvision's
library loads, this does nothing.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

_kept_alive: list[Any] = []


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
