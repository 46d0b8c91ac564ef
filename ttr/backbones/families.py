"""From a model in memory to a Backbone: recognise the family, ask its locator for the sites."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from ttr import checks
from ttr.backbones import open_clip_vit, timm_vit, transformers_vit
from ttr.backbones.base import Backbone, Weights
from ttr.backbones.offload import check_offload, offloaded
from ttr.errors import ModelError, OptionError

FAMILIES = (
    "timm VisionTransformer, timm Eva, open_clip CLIP (whole model or its visual tower), "
    "transformers Dinov2, Dinov2WithRegisters, DINOv3ViT, CLIP, Siglip (vision model or the whole model)"
)

#: Models whose weights are finite, with where each tensor lies and how often it was changed.
_LOOKED_AT: WeakKeyDictionary[nn.Module, tuple[tuple[int, int], ...]] = WeakKeyDictionary()


def adapt(model: nn.Module, *, preprocess: Callable | None = None) -> Backbone:
    """Describe an in-memory model as a :class:`~ttr.backbones.base.Backbone` without changing it.

    Args:
        model: a timm VisionTransformer or Eva; an open_clip CLIP model or its ``visual`` tower; a DINOv2,
            DINOv3, CLIP or SigLIP model of transformers.
        preprocess: PIL image -> float tensor [3, H, W]; by default what the library attached to the model.

    Raises:
        ModelError: the model is of none of these families, or its weights are no finite floats.
        OptionError: ``preprocess`` is no function.
    """
    if preprocess is not None and not callable(preprocess):
        raise OptionError(f"preprocess={preprocess!r}; needed a function, PIL image -> tensor [3, H, W]")
    backbone = locate(model, name=None, weights=Weights("in memory"), preprocess=preprocess)
    check_weights(backbone.model, backbone.name)
    return backbone


def as_backbone(given: Backbone | nn.Module) -> Backbone:
    """Return a Backbone as it is, and adapt a model.

    Raises:
        ModelError: neither a Backbone nor a model of a known family.
    """
    return given if isinstance(given, Backbone) else adapt(given)


def locate(
    model: Any, *, name: str | None, weights: Weights, preprocess: Callable | None, warning: str = ""
) -> Backbone:
    """Recognise the family of ``model`` and build its Backbone under ``name`` (None: describe it)."""
    family: ModuleType
    kinds = {f"{kind.__module__.split('.')[0]}.{kind.__name__}" for kind in type(model).__mro__}
    if kinds & {"timm.VisionTransformer", "timm.Eva"}:
        family, name = timm_vit, name or timm_vit.describe(model)
    elif kinds & {"open_clip.CLIP", "open_clip.CustomTextCLIP", "open_clip.CoCa"} | (
        kinds & {"open_clip.VisionTransformer", "open_clip.TimmModel"}
    ):
        family, name = open_clip_vit, name or f"open_clip {type(model).__name__}"
    elif transformers_vit.class_of(model):
        family, name = transformers_vit, name or f"transformers {type(model).__name__}"
    else:
        given = f"{type(model).__module__}.{type(model).__name__}"
        if type(model).__name__ == "DinoVisionTransformer":
            raise ModelError(f"{given} is the code of torch.hub; {_from_torch_hub(model)}")
        inside = transformers_vit.tower_inside(model)
        unwrap = (
            f"give its {inside}" if inside else "unwrap DataParallel, torch.compile or your own module first"
        )
        raise ModelError(f"model family {given} is not known; needed one of: {FAMILIES}; {unwrap}")
    backbone = family.locate(model, name=name, weights=weights, preprocess=preprocess)
    return replace(backbone, warning=warning)


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
    state = tuple(
        (x.data_ptr(), 0 if x.is_inference() else x._version)
        for x in (*parameters.values(), *buffers.values())
    )
    if _LOOKED_AT.get(model) == state:
        return
    checks.finite(source, parameters)
    checks.finite(source, buffers, masks=True)
    _LOOKED_AT[model] = state


def _from_torch_hub(model: Any) -> str:
    """Tell how to load a DINOv2 or DINOv3 of the authors' code: its state dict into timm's architecture."""
    sizes = {384: "small", 768: "base", 1024: "large", 1280: "huge_plus", 1536: "giant", 4096: "7b"}
    rest = "patch14_reg4_dinov2" if getattr(model, "num_register_tokens", 0) else "patch14_dinov2"
    rest = "patch16_dinov3" if hasattr(model, "storage_tokens") else rest
    size = sizes.get(getattr(model, "embed_dim", 0), "SIZE")
    return f'load it by name: ttr.load("timm:vit_{size}_{rest}", weights=model.state_dict())'
