"""Which model is this, or which one does it hold, or what is it instead?"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ttr.backbones import monai_vit, open_clip_vit, timm_vit, torchvision_vit, transformers_vit
from ttr.backbones.compiled import WRAPPER
from ttr.errors import ModelError
from ttr.wording import counted

LOCATORS: tuple[ModuleType, ...] = (timm_vit, open_clip_vit, transformers_vit, torchvision_vit, monai_vit)
FAMILIES = (
    "timm VisionTransformer, Eva, Beit, VisionTransformerRelPos or NaFlexVit, open_clip CLIP (whole model or "
    "its visual tower), transformers Dinov2, Dinov2WithRegisters, DINOv3ViT, ViT, DeiT, ViTMAE, ViTMSN, "
    "IJepa, CLIP, Siglip or Siglip2, torchvision VisionTransformer, monai ViT, or a module that holds one"
)


def locator_of(model: Any) -> ModuleType | None:
    """Return the locator that knows a model itself, or None."""
    return next((locator for locator in LOCATORS if locator.knows(model)), None)


def find(model: Any) -> tuple[Any, ModuleType, str]:
    """Return the one model that we know: the given one or one inside it, its locator, and where it is.

    Where: the path inside, such as ``.encoder``, or "" for the given model itself.

    Raises:
        ModelError: there is none, or more than one.
    """
    locator = locator_of(model)
    if locator is not None:
        return model, locator, ""
    held = list(_inside(model)) if isinstance(model, nn.Module) else []
    if len(held) > 1:
        places = ", ".join(path for _, _, path in held)
        raise ModelError(
            f"{_called(model)} holds {counted(len(held), 'model')} that are known, {places}; give one of them"
        )
    if not held or _is_compiled_form(model):
        raise ModelError(_refusal(model))
    return held[0]


def _inside(module: nn.Module, path: str = "") -> Iterator[tuple[nn.Module, ModuleType, str]]:
    """Yield the outermost models that we know, each once; what they hold themselves is theirs."""
    seen: set[nn.Module] = set()
    for name, child in module.named_children():
        locator = locator_of(child)
        found = [(child, locator, f"{path}.{name}")] if locator else _inside(child, f"{path}.{name}")
        for each in found:
            if each[0] not in seen:
                seen.add(each[0])
                yield each


def _called(model: Any) -> str:
    return f"{type(model).__module__}.{type(model).__name__}"


def _is_compiled_form(model: nn.Module) -> bool:
    return any(type(module).__name__ == WRAPPER for module in model.modules())


def _refusal(model: Any) -> str:
    """Say what a model is that is none of ours, and what to do where there is anything."""
    needed = f"needed one of: {FAMILIES}"
    if not isinstance(model, nn.Module):
        return f"got {_called(model)}, which is no PyTorch module; {needed}"
    if _is_compiled_form(model):
        return (
            f"{_called(model)} is compiled, or holds what torch.compile returned; give the model that was "
            "compiled, and compile it again once the wrap stands"
        )
    if isinstance(model, torch.jit.ScriptModule):
        return (
            f"{_called(model)} is TorchScript, whose blocks cannot be reached; give the model it was made of"
        )
    for path, module in model.named_modules():
        if type(module).__name__ == "DinoVisionTransformer":
            where = f".{path} of {_called(model)}" if path else _called(model)
            return f"{where} is the code of torch.hub; {_from_torch_hub(module)}"
    return f"model family {_called(model)} is not known: {_what(model)}; {needed}"


def _what(model: nn.Module) -> str:
    """Tell what kind of network it is, as far as its parts show."""
    names = [type(module).__name__.lower() for module in model.modules()]
    windows = [getattr(module, "window_size", None) for module in model.modules()]
    # BEiT calls its whole grid a window, and gives two sides.
    if any("window" in name or "swin" in name for name in names) or any(
        type(x) is int and x for x in windows
    ):
        return "its attention runs in windows, where a token that is no patch has no place"
    if not any("attention" in name or "attn" in name for name in names):
        return "it has no module that is called an attention, which a register is to draw"
    return "it is no Vision Transformer of a class that is known, and holds none"


def _from_torch_hub(model: Any) -> str:
    """Tell how to load a DINOv2 or DINOv3 of the authors' code: its state dict into timm's architecture."""
    sizes = {384: "small", 768: "base", 1024: "large", 1280: "huge_plus", 1536: "giant", 4096: "7b"}
    rest = "patch14_reg4_dinov2" if getattr(model, "num_register_tokens", 0) else "patch14_dinov2"
    rest = "patch16_dinov3" if hasattr(model, "storage_tokens") else rest
    size = sizes.get(getattr(model, "embed_dim", 0), "SIZE")
    return f'load it by name: ttr.load("timm:vit_{size}_{rest}", weights=model.state_dict())'
