"""Test-time registers for medical imaging.

Large Vision Transformers park global information in a few high-norm patches. ttr finds the neurons that
cause it, moves their activity onto tokens appended at test time, and shows what changed:

    backbone = ttr.load("phantom")
    neurons = ttr.detect(backbone, images)
    with ttr.TestTimeRegisters(backbone, neurons):
        features = backbone.embed(images)

Importing ttr is light: torch, timm and the rest load when a name is first used.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from ttr.errors import TTRError
from ttr.torchvision_operators import declare_before_torchvision
from ttr.version import __version__

if TYPE_CHECKING:
    from ttr.attribution.attribute import attribute
    from ttr.backbones import Backbone, adapt, load, plant
    from ttr.evaluate.zero_shot import zero_shot
    from ttr.registers.attention_bias import AttentionBias, BiasCalibration, calibrate_bias
    from ttr.registers.detection import detect
    from ttr.registers.neurons import RegisterNeurons
    from ttr.registers.unwrapping import unwrap
    from ttr.registers.wrap import TestTimeRegisters
    from ttr.studies.compare.comparison import compare
    from ttr.studies.embed.manifest import verify_embeddings
    from ttr.studies.embed.write import embed_images
    from ttr.studies.export.write import export
    from ttr.studies.plant.planting import plant_artifacts

_HOME = {
    "AttentionBias": "ttr.registers.attention_bias",
    "BiasCalibration": "ttr.registers.attention_bias",
    "calibrate_bias": "ttr.registers.attention_bias",
    "Backbone": "ttr.backbones",
    "adapt": "ttr.backbones",
    "attribute": "ttr.attribution.attribute",
    "load": "ttr.backbones",
    "compare": "ttr.studies.compare.comparison",
    "detect": "ttr.registers.detection",
    "embed_images": "ttr.studies.embed.write",
    "export": "ttr.studies.export.write",
    "RegisterNeurons": "ttr.registers.neurons",
    "plant": "ttr.backbones",
    "plant_artifacts": "ttr.studies.plant.planting",
    "TestTimeRegisters": "ttr.registers.wrap",
    "unwrap": "ttr.registers.unwrapping",
    "verify_embeddings": "ttr.studies.embed.manifest",
    "zero_shot": "ttr.evaluate.zero_shot",
}

__all__ = [
    "AttentionBias",
    "Backbone",
    "BiasCalibration",
    "RegisterNeurons",
    "TTRError",
    "TestTimeRegisters",
    "__version__",
    "adapt",
    "attribute",
    "calibrate_bias",
    "compare",
    "detect",
    "embed_images",
    "export",
    "load",
    "plant",
    "plant_artifacts",
    "unwrap",
    "verify_embeddings",
    "zero_shot",
]


declare_before_torchvision()
# albumentations asks the package index for a newer version when it is imported, whoever imports it.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ttr' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
