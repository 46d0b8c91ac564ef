"""Locate the sites of an open_clip image tower, given the whole CLIP model or the tower alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttr.backbones import timm_vit
from ttr.backbones.base import Backbone, Sites, Weights
from ttr.backbones.mixing import HeadsOutput, Mixing
from ttr.backbones.offload import held
from ttr.backbones.query_key import QueryKey
from ttr.errors import ModelError
from ttr.hooks import Site
from ttr.tokens import TokenLayout

CLASSES = {"CLIP", "CustomTextCLIP", "CoCa", "VisionTransformer", "TimmModel"}


def knows(model: Any) -> bool:
    """Return whether a model is a CLIP of open_clip, or an image tower of one."""
    kinds = type(model).__mro__
    return any(kind.__name__ in CLASSES and kind.__module__.startswith("open_clip.") for kind in kinds)


def describe(model: Any) -> str:
    """Return the description of a model from memory."""
    return f"open_clip {type(model).__name__}"


def query_key(attention: Any, x: Tensor, kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor, float]:
    """Project [B, N, D] to queries and keys [B, heads, N, d] as nn.MultiheadAttention does."""
    q, k = (_project(attention, x, part) for part in (0, 1))
    return q, k, q.shape[-1] ** -0.5


def back(attention: Any, x: Tensor, rows: slice) -> tuple[Tensor, float]:
    """Return the queries of ``rows``, projected back by the keys' weight, [B, heads, Q, D], and the scale."""
    q = _project(attention, x[:, rows], 0)
    dim = x.shape[2]
    weight = held(attention, "in_proj_weight")[dim : 2 * dim].unflatten(0, (attention.num_heads, -1))
    return torch.einsum("bhqd,hdc->bhqc", q, weight), q.shape[-1] ** -0.5


def query_key_value(
    attention: Any, x: Tensor, kwargs: Mapping[str, Any]
) -> tuple[Tensor, Tensor, Tensor, float]:
    """Project [B, N, D] to queries, keys and values [B, heads, N, d] as nn.MultiheadAttention does."""
    q, k, v = (_project(attention, x, part) for part in (0, 1, 2))
    return q, k, v, q.shape[-1] ** -0.5


def value(attention: Any, x: Tensor, kwargs: Mapping[str, Any]) -> Tensor:
    """Project [B, N, D] to values [B, heads, N, d] as nn.MultiheadAttention does."""
    return _project(attention, x, 2)


def heads_output(attention: Any) -> HeadsOutput:
    """Return what follows the heads in nn.MultiheadAttention: its projection."""
    return HeadsOutput(attention.out_proj)


def branch_scale(block: Any) -> Tensor | None:
    """Return the layer scale of a block's attention branch, [D], or None."""
    return held(block.ls_1, "gamma") if hasattr(block.ls_1, "gamma") else None


def _project(attention: Any, x: Tensor, part: int) -> Tensor:
    dim = x.shape[2]
    rows = slice(part * dim, (part + 1) * dim)
    weight, bias = held(attention, "in_proj_weight"), held(attention, "in_proj_bias")
    projected = F.linear(x, weight[rows], None if bias is None else bias[rows])
    return projected.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)


def locate(model: Any, *, name: str, weights: Weights, preprocess: Callable | None) -> Backbone:
    """Build the Backbone of an open_clip model, of its ``visual`` tower, or of a tower that timm made.

    Raises:
        ModelError: the tower is no transformer, or its blocks are not open_clip's default ones.
    """
    tower = getattr(model, "visual", model)
    preprocess = preprocess or _own_preprocess(tower)
    if timm_vit.knows(getattr(tower, "trunk", None)):
        trunk = timm_vit.locate(tower.trunk, name=name, weights=weights, preprocess=preprocess)
        return replace(trunk, model=model, features=TowerOutput(tower))
    if not hasattr(tower, "transformer"):
        kind = type(getattr(tower, "trunk", tower)).__name__
        raise ModelError(
            f"image tower {kind} of {name} is no Vision Transformer; "
            "choose an open_clip ViT (list them with open_clip.list_models())"
        )
    blocks = list(tower.transformer.resblocks)
    for block in blocks:
        _check_block(block, tower)
    return Backbone(
        model=model,
        name=name,
        layout=TokenLayout(1, 0, 0, tuple(tower.grid_size)),
        image_size=tuple(tower.image_size),
        patch_size=tuple(tower.patch_size),
        num_layers=len(blocks),
        num_neurons=blocks[0].mlp.c_proj.in_features,
        num_heads=blocks[0].attn.num_heads,
        sites=Sites(
            entry=Site(tower.ln_pre, "input"),
            exit=_exit(tower),
            blocks=tuple(Site(block, "output") for block in blocks),
            mlps=tuple(Site(block.mlp, "input") for block in blocks),
            neurons=tuple(Site(block.mlp.c_proj, "input") for block in blocks),
            attention=tuple(Site(block.attn, "input") for block in blocks),
            final_norm=tower.ln_post if tower.attn_pool is None else nn.Identity(),
            tower=tower,
            pre_norm=tower.ln_pre,
        ),
        query_key=QueryKey(query_key, back=back),
        mixing=Mixing(value, heads_output, branch_scale),
        features=TowerOutput(tower),
        preprocess_image=preprocess,
        weights=weights,
    )


@dataclass(frozen=True)
class TowerOutput:
    """The global feature of an open_clip image tower: its output, or the first of it."""

    tower: Any
    pooling: str = "tower"

    def __call__(self, images: Tensor) -> Tensor:
        """Return [B, D] of images [B, 3, H, W]."""
        output = self.tower(images)
        return output[0] if isinstance(output, tuple) else output

    def project(self, cls: Tensor) -> Tensor:
        """Return CLS behind the final norm, [B, D], as the tower gives it out; as it is, if others are."""
        try:
            return self.shared(cls)
        except ModelError:
            return cls

    @property
    def pools_by_attention(self) -> bool:
        """Whether the tower's output is an attention over its tokens."""
        trunk = getattr(self.tower, "trunk", None)
        pooled = getattr(self.tower if trunk is None else trunk, "attn_pool", None)
        return pooled is not None or hasattr(getattr(self.tower, "head", None), "pool")

    def shared(self, tokens: Tensor) -> Tensor:
        """Project tokens behind the final norm, [..., D], into the space shared with text, [..., E].

        It is what the tower's own forward does with CLS (with the mean of the patches, where it pools so).

        Raises:
            ModelError: the tower pools by attention, which gives no token a place of its own.
        """
        trunk = getattr(self.tower, "trunk", None)
        if self.pools_by_attention:
            raise ModelError(
                "this image tower pools its tokens by attention, so a patch has no place in the space "
                "that it shares with text; needed one that takes CLS or a mean, such as open_clip:ViT-B-16"
            )
        if trunk is not None:
            for name in ("fc_norm", "head_drop", "head"):
                tokens = getattr(trunk, name, nn.Identity())(tokens)
            return self.tower.head(tokens)
        projection = held(self.tower, "proj")
        return tokens if projection is None else tokens @ projection


def _exit(tower: Any) -> Site:
    """Return the first thing that the tokens meet behind the last block: what pools or normalises them."""
    if tower.attn_pool is not None and tower.attn_pool_contrastive is None:
        return Site(tower.attn_pool, "input")
    if tower.attn_pool is None and tower.final_ln_after_pool:
        return Site(tower.transformer, "output")
    return Site(tower.ln_post, "input")


def _check_block(block: Any, tower: Any) -> None:
    if not isinstance(block.attn, nn.MultiheadAttention) or not hasattr(block.mlp, "c_proj"):
        raise ModelError(
            f"block {type(block).__name__} of this open_clip tower has custom attention; "
            "needed the default ResidualAttentionBlock with nn.MultiheadAttention"
        )
    if not tower.transformer.batch_first:
        raise ModelError(
            "this open_clip tower runs sequence-first; build it with batch_first=True (the default)"
        )


def _own_preprocess(tower: Any) -> Callable | None:
    config = getattr(tower, "preprocess_cfg", None)
    if not config:
        return None
    from open_clip.transform import PreprocessCfg, image_transform_v2

    return image_transform_v2(PreprocessCfg(**config), is_train=False)
