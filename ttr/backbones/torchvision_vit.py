"""Locate the sites of torchvision's VisionTransformer (``vit_b_16`` and its kind)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ttr.backbones import open_clip_vit
from ttr.backbones.base import Backbone, Sites, Weights
from ttr.backbones.given_to import GivenTo, cls_alone
from ttr.backbones.mixing import Mixing
from ttr.backbones.query_key import QueryKey
from ttr.hooks import Site
from ttr.tokens import TokenLayout


def knows(model: Any) -> bool:
    """Return whether a model is torchvision's VisionTransformer."""
    return any(
        kind.__module__ == "torchvision.models.vision_transformer" and kind.__name__ == "VisionTransformer"
        for kind in type(model).__mro__
    )


def describe(model: Any) -> str:
    """Return the description of a model from memory."""
    return f"torchvision {type(model).__name__}"


def branch_scale(block: Any) -> Tensor | None:
    """Return the layer scale of a block's attention branch: there is none."""
    return None


def locate(model: Any, *, name: str, weights: Weights, preprocess: Callable | None) -> Backbone:
    """Build the Backbone of a torchvision VisionTransformer; its feature is what its heads are given."""
    blocks: list[Any] = list(model.encoder.layers)
    down = [[layer for layer in block.mlp if isinstance(layer, nn.Linear)][-1] for block in blocks]
    side = model.image_size // model.patch_size
    return Backbone(
        model=model,
        name=name,
        layout=TokenLayout(1, 0, 0, (side, side)),
        image_size=(model.image_size, model.image_size),
        patch_size=(model.patch_size, model.patch_size),
        num_layers=len(blocks),
        num_neurons=down[0].in_features,
        num_heads=blocks[0].self_attention.num_heads,
        sites=Sites(
            entry=Site(model.encoder.dropout, "output"),
            exit=Site(model.encoder.ln, "input"),
            blocks=tuple(Site(block, "output") for block in blocks),
            mlps=tuple(Site(block.mlp, "input") for block in blocks),
            neurons=tuple(Site(layer, "input") for layer in down),
            attention=tuple(Site(block.self_attention, "input") for block in blocks),
            final_norm=model.encoder.ln,
            tower=model,
        ),
        query_key=QueryKey(open_clip_vit.query_key, back=open_clip_vit.back),
        mixing=Mixing(open_clip_vit.value, open_clip_vit.heads_output, branch_scale),
        features=GivenTo(model, model.heads, says=cls_alone),
        preprocess_image=preprocess,
        weights=weights,
    )
