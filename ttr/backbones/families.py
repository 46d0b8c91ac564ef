"""From a model in memory to a Backbone: recognise the family, ask its locator for the sites."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from ttr import checks
from ttr.backbones.base import Backbone, Weights
from ttr.backbones.identity import State, state_of
from ttr.backbones.offload import check_offload, offloaded
from ttr.backbones.recognise import find
from ttr.backbones.transformers_preprocess import Preprocess, given_processor, is_processor
from ttr.backbones.transformers_vit import PooledFeature
from ttr.errors import ModelError, OptionError

#: Models whose weights are finite, with where each tensor lies and how often it was changed.
_LOOKED_AT: WeakKeyDictionary[nn.Module, State] = WeakKeyDictionary()


def adapt(model: nn.Module, *, preprocess: Callable | None = None) -> Backbone:
    """Describe an in-memory model as a :class:`~ttr.backbones.base.Backbone` without changing it.

    Args:
        model: a Vision Transformer of a known family (docs/models.md), or a module that holds one.
        preprocess: PIL image -> float tensor [3, H, W], or an image processor of transformers, which also
            sets the image size; by default what the library attached to the model.

    Raises:
        ModelError: the model is of none of these families and holds none or several, its weights are no
            finite floats, or the image processor makes a size that it does not take.
        OptionError: ``preprocess`` is no function.
    """
    if preprocess is not None and not callable(preprocess):
        raise OptionError(f"preprocess={preprocess!r}; needed a function, PIL image -> tensor [3, H, W]")
    if is_processor(preprocess):
        preprocess = given_processor(preprocess)
    backbone = locate(model, name=None, weights=Weights("in memory"), preprocess=preprocess)
    check_weights(backbone.model, backbone.name)
    return _at_size(backbone, preprocess.size) if isinstance(preprocess, Preprocess) else backbone


def _at_size(backbone: Backbone, size: tuple[int, int]) -> Backbone:
    """Return the backbone at the image size that its image processor makes, (height, width) in pixels.

    Raises:
        ModelError: the model does not take it.
    """
    if size == backbone.image_size:
        return backbone
    patch = backbone.patch_size
    interpolates = backbone.any_size or isinstance(backbone.features, PooledFeature)
    if not interpolates or size[0] % patch[0] or size[1] % patch[1]:
        takes = "multiples of {}x{} px" if interpolates else "{}x{} px"
        raise ModelError(
            f"the image processor makes {size[0]}x{size[1]} px, but {backbone.name} takes "
            f"{takes.format(*(patch if interpolates else backbone.image_size))}; give the processor that size"
        )
    layout = replace(backbone.layout, grid=(size[0] // patch[0], size[1] // patch[1]))
    return replace(backbone, image_size=size, layout=layout)


def as_backbone(given: Backbone | nn.Module) -> Backbone:
    """Return a Backbone as it is, and adapt a model.

    Raises:
        ModelError: neither a Backbone nor a model of a known family.
    """
    return given if isinstance(given, Backbone) else adapt(given)


def as_it_stands(backbone: Backbone) -> Backbone:
    """Return a backbone with the sites that its model has now: LoRA and quantisation replace modules.

    Raises:
        ModelError: the model was changed into one that we do not know.
    """
    now = locate(
        backbone.model,
        name=backbone.name,
        weights=backbone.weights,
        preprocess=backbone.preprocess_image,
    )
    return backbone if now.sites == backbone.sites else replace(backbone, sites=now.sites)


def locate(
    model: Any, *, name: str | None, weights: Weights, preprocess: Callable | None, warning: str = ""
) -> Backbone:
    """Recognise the family of ``model`` and build its Backbone under ``name`` (None: describe it).

    Of a module that holds one such model, it is that one's Backbone, and its weights say where it was found.
    """
    found, locator, where = find(model)
    if where:
        weights = Weights(weights.origin, f"{where} of {type(model).__name__}")
    backbone = locator.locate(
        found, name=name or locator.describe(found), weights=weights, preprocess=preprocess
    )
    channels = _channels(backbone.sites.tower)
    own = backbone.preprocess_image if channels == 3 else preprocess  # what a library attaches makes three
    return replace(backbone, channels=channels, preprocess_image=own, warning=warning)


def _channels(tower: Any) -> int:
    """Return how many channels a tower's images have."""
    said = getattr(tower, "in_chans", None) or getattr(getattr(tower, "config", None), "num_channels", None)
    first = (module.in_channels for module in tower.modules() if isinstance(module, nn.Conv2d))
    return int(said or next(first, 3))


def check_weights(model: nn.Module, source: str) -> None:
    """Raise ModelError unless parameters are finite floats and buffers hold no NaN (masks are infinite).

    The values are looked at once, and again after a change that torch counts: wraps may come and go. A model
    that lies on the meta device as a whole has none; it can be described, and refuses what needs them. What
    accelerate keeps elsewhere is not looked at.
    """
    check_offload(model, source)
    elsewhere = offloaded(model)
    parameters = {name: x for name, x in model.named_parameters() if name not in elsewhere}
    buffers = {name: x for name, x in model.named_buffers() if name not in elsewhere}
    if all(x.is_meta for x in parameters.values()):
        return
    checks.floats(source, parameters)
    state = state_of(model)
    if _LOOKED_AT.get(model) == state:
        return
    checks.finite(source, parameters)
    checks.finite(source, buffers, masks=True)
    _LOOKED_AT[model] = state
