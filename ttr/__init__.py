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
from typing import TYPE_CHECKING, Any

from ttr.errors import TTRError
from ttr.torchvision_operators import declare_before_torchvision
from ttr.version import __version__

if TYPE_CHECKING:
    from ttr.attention_bias import AttentionBias, BiasCalibration, calibrate_bias
    from ttr.backbones import Backbone, adapt, load, plant
    from ttr.comparison import compare
    from ttr.detection import detect
    from ttr.exporting import export
    from ttr.neurons import RegisterNeurons
    from ttr.prompts import zero_shot
    from ttr.registers import TestTimeRegisters

_HOME = {
    "AttentionBias": "ttr.attention_bias",
    "BiasCalibration": "ttr.attention_bias",
    "calibrate_bias": "ttr.attention_bias",
    "Backbone": "ttr.backbones",
    "adapt": "ttr.backbones",
    "load": "ttr.backbones",
    "compare": "ttr.comparison",
    "detect": "ttr.detection",
    "export": "ttr.exporting",
    "RegisterNeurons": "ttr.neurons",
    "plant": "ttr.backbones",
    "TestTimeRegisters": "ttr.registers",
    "zero_shot": "ttr.prompts",
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
    "calibrate_bias",
    "compare",
    "detect",
    "export",
    "load",
    "plant",
    "zero_shot",
]


declare_before_torchvision()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ttr' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
