"""Backbones: adapt a model from memory, load one by name, plant register neurons in a random one."""

from ttr.backbones.base import Backbone, Sites, Weights
from ttr.backbones.families import adapt
from ttr.backbones.loading import load
from ttr.backbones.phantoms.planting import plant

__all__ = ["Backbone", "Sites", "Weights", "adapt", "load", "plant"]
