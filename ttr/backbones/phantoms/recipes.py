"""The phantoms: small real Vision Transformers whose register neurons are known, built in a second offline.

``phantom``        timm ViT, 6 blocks, width 192, 224 px, patch 16: outliers on dark border patches.
``phantom-reg4``   the same with four trained registers that carry the sink: no outlier patches.
``phantom-clip``   an open_clip model whose image tower is planted like ``phantom``.

Six more, ``phantom-patches``, ``phantom-registers``, ``phantom-skip``, ``phantom-constant``, ``phantom-sink``
and ``phantom-offset``, differ in what CLS is made of (:mod:`ttr.backbones.phantoms.integration`).

Weights follow from a seed alone. They are drawn here, not by the libraries' initialisers, so that another
version of timm or open_clip builds the same phantom.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from ttr.backbones.base import Backbone, Weights
from ttr.backbones.families import locate
from ttr.backbones.phantoms import integration as integration_phantoms
from ttr.backbones.phantoms.guard import plant_guard, reserve_guard
from ttr.backbones.phantoms.planting import plant
from ttr.errors import ModelError
from ttr.threads import one_thread

if TYPE_CHECKING:
    from PIL.Image import Image

WIDTH, DEPTH, HEADS, PATCH, SIZE = 192, 6, 3, 16, 224


@dataclass(frozen=True)
class Recipe:
    """What makes one phantom: its seed, how much attention writes, and what is planted where.

    The seeds and gains are tuned so that a linear probe on the phantom images shows the published pattern:
    moving the neurons preserves what zeroing them breaks, and zeroing trained registers collapses what
    their mean, matched noise, or another image's registers leave within a point.
    """

    seed: int
    attention_gain: float
    layer: int
    carrier: Literal["patches", "registers"]
    strength: float
    guarded: bool = False


RECIPES = {
    "phantom": Recipe(7, 0.8, 2, "patches", 12.0),
    "phantom-reg4": Recipe(7, 1.0, 1, "registers", 300.0, guarded=True),
    "phantom-clip": Recipe(3, 1.0, 2, "patches", 12.0),
}


def load(name: str, *, image_size: int | None = None) -> Backbone:
    """Build a phantom by name, at 224 px or another multiple of 16 px.

    Raises:
        ModelError: the image size is no such multiple.
    """
    size = SIZE if image_size is None else image_size
    if size < 4 * PATCH or size % PATCH:
        raise ModelError(
            f"image_size={size}; the phantoms need a multiple of {PATCH} px, at least {4 * PATCH}"
        )
    return copy.deepcopy(_built(name, size))


@lru_cache(maxsize=8)  # to plant one takes as long as twenty passes, to copy it a tenth of that
def _built(name: str, size: int) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        registers = 0 if name == "phantom" else 4
        model = _clip(size) if name == "phantom-clip" else _vit(size, registers)
    model.eval()
    recipe = RECIPES.get(name)
    seed = recipe.seed if recipe else integration_phantoms.SEED
    _draw_weights(model, seed, recipe.attention_gain if recipe else 1.0)
    weights = Weights("phantom", f"seed {seed}")
    bare = locate(model, name=name, weights=weights, preprocess=Preprocess(size))
    with one_thread():
        return integration_phantoms.build(bare, name) if recipe is None else _planted(bare, recipe, weights)


def _planted(bare: Backbone, recipe: Recipe, weights: Weights) -> Backbone:
    if recipe.guarded:
        reserve_guard(bare)
    planted = plant(
        bare, layer=recipe.layer, carrier=recipe.carrier, strength=recipe.strength, seed=recipe.seed
    )
    if recipe.guarded:
        plant_guard(planted, first=recipe.layer + 1, block=recipe.layer + 2, seed=recipe.seed)
    return replace(planted, weights=weights)


@dataclass(frozen=True)
class Preprocess:
    """The phantoms' preprocessing: shorter side to ``size``, centre crop, scaled to -1..1."""

    size: int

    def __call__(self, image: Image) -> Tensor:
        """Return [3, size, size] of an RGB image."""
        import numpy as np
        import PIL.Image

        size = self.size
        scale = size / min(image.size)
        resized = image.resize(
            [max(size, round(scale * side)) for side in image.size], PIL.Image.Resampling.BICUBIC
        )
        left, top = (resized.width - size) // 2, (resized.height - size) // 2
        pixels = np.asarray(resized.crop((left, top, left + size, top + size)), dtype=np.float32)
        return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1).contiguous()


def _vit(size: int, registers: int) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=size,
        patch_size=PATCH,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        num_classes=0,
        reg_tokens=registers,
        no_embed_class=registers > 0,
        weight_init="skip",
    )


def _clip(size: int) -> nn.Module:
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    vision = CLIPVisionCfg(
        layers=DEPTH, width=WIDTH, head_width=WIDTH // HEADS, patch_size=PATCH, image_size=size
    )
    return CLIP(128, vision, CLIPTextCfg(width=64, heads=2, layers=2))


@torch.no_grad()
def _draw_weights(model: nn.Module, seed: int, attention_gain: float) -> None:
    """Draw every parameter from one generator: matrices N(0, 1/fan-in), tokens N(0, 0.3^2), norms 1 and 0."""
    generator = torch.Generator().manual_seed(seed)
    norms = {
        id(p) for m in model.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters(recurse=False)
    }
    for name, parameter in sorted(model.named_parameters()):
        if id(parameter) in norms:
            parameter.fill_(float(name.endswith("weight")))
        elif name.endswith("bias") or parameter.ndim == 0:
            parameter.zero_()
        elif parameter.ndim == 4:
            parameter.normal_(0, 2 * parameter[0].numel() ** -0.5, generator=generator)
        elif "token" in name or "embed" in name:
            parameter.normal_(0, 0.3, generator=generator)
        else:
            parameter.normal_(0, parameter.shape[-1] ** -0.5, generator=generator)
        if name.endswith(("attn.proj.weight", "attn.out_proj.weight")):
            parameter.mul_(attention_gain)
