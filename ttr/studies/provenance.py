"""What a result was made with: versions, platform, weights, settings. Written beside every result."""

from __future__ import annotations

import platform
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

from ttr.backbones.base import Backbone
from ttr.version import __version__
from ttr.wording import DISCLAIMER

LIBRARIES = ("torch", "torchvision", "timm", "open_clip_torch", "numpy", "pillow")


def provenance(backbone: Backbone, **settings: Any) -> dict[str, Any]:
    """Return versions, platform, the backbone's identity and the given settings as JSON values."""
    return {
        "ttr": __version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "backbone": {
            "name": backbone.name,
            "weights": str(backbone.weights),
            "weights_hash": backbone.weights_hash,
            "image_size": list(backbone.image_size),
            "blocks": backbone.num_layers,
            "trained_registers": backbone.layout.registers,
            "pooling": backbone.pooling,
            "note": backbone.beside_cls,
            "device": str(backbone.device),
            "dtype": str(backbone.dtype).removeprefix("torch."),
        },
        "settings": settings,
        "warning": backbone.warning,
        "disclaimer": DISCLAIMER,
    }
