"""Locate the sites of a timm VisionTransformer (DeiT, DINOv2, CLIP towers), Eva (DINOv3, EVA-02), Beit,
VisionTransformerRelPos or NaFlexVit.

BEiT's and RelPos' attention adds a learned bias to each pair of positions. It is looked up in a table of the
bare sequence's length, so such a model can be looked into, but no token can be inserted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttr.backbones.base import Backbone, Sites, Weights
from ttr.backbones.given_to import ClsBehind, GivenTo
from ttr.backbones.mixing import HeadsOutput, Mixing
from ttr.backbones.offload import held
from ttr.backbones.query_key import QueryKey
from ttr.errors import ModelError
from ttr.hooks import Site
from ttr.tokens import TokenLayout

#: Classes of timm that have blocks of this kind.
CLASSES = {"VisionTransformer", "Eva", "Beit", "VisionTransformerRelPos", "NaFlexVit"}
ATTENTION = {"Attention", "AttentionRope", "EvaAttention", "RelPosAttention"}


def knows(model: Any) -> bool:
    """Return whether a model is of one of these classes of timm, or of one derived from it."""
    kinds = type(model).__mro__
    return any(kind.__name__ in CLASSES and kind.__module__.startswith("timm.") for kind in kinds)


def query_key(attention: Any, x: Tensor, kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor, float]:
    """Project [B, N, D] to queries and keys [B, heads, N, d] as the module itself does, RoPE included.

    A bias of pairs of positions comes as N more dimensions, d + N: each key is one-hot there.
    """
    q, k, _, scale = query_key_value(attention, x, kwargs)
    return *_with_position_bias(attention, q, k, kwargs), scale


def passing(attention: Any) -> tuple[Site, ...]:
    """Return where queries and keys [B, heads, N, d] pass, behind their norms, which may be none."""
    norms: list[Any] = [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
    if None in norms or norms[0] is norms[1]:  # BEiT's attention has none
        return ()
    return tuple(Site(norm, "output") for norm in norms)


def picked_up(
    attention: Any, seen: list[Tensor], kwargs: Mapping[str, Any], rows: slice
) -> tuple[Tensor, Tensor, float]:
    """Return queries of ``rows``, keys and scale of what passed the norms: turned, and one key a head."""
    q, k = seen
    if (rope := kwargs.get("rope")) is not None:
        turned = rows.stop is None or rows.stop > attention.num_prefix_tokens
        q, k = _rotate(attention, q, rope) if turned else q, _rotate(attention, k, rope)
    if k.shape[1] != q.shape[1]:
        k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    q, k = _with_position_bias(attention, q, k, kwargs)
    return q[:, :, rows], k, float(attention.scale)


def _with_position_bias(
    attention: Any, q: Tensor, k: Tensor, kwargs: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    bias = _position_bias(attention, kwargs)
    if bias is None:
        return q, k
    one_hot = torch.eye(k.shape[2], dtype=k.dtype, device=k.device).expand(*k.shape[:2], -1, -1)
    spread = (bias / float(attention.scale)).to(q).expand(len(q), -1, -1, -1)
    return torch.cat([q, spread], dim=3), torch.cat([k, one_hot], dim=3)


def _position_bias(attention: Any, kwargs: Mapping[str, Any]) -> Tensor | None:
    """Return what is added to the logits for each pair of positions, [1, heads, N, N], or None."""
    if getattr(attention, "relative_position_bias_table", None) is not None:
        own = attention._get_rel_pos_bias()
    elif getattr(attention, "rel_pos", None) is not None:
        own = attention.rel_pos.get_bias()
    else:
        own = None
    shared = (kwargs[key] for key in ("shared_rel_pos_bias", "shared_rel_pos") if key in kwargs)
    parts = [part for part in (own, *shared) if part is not None]
    return sum(parts[1:], start=parts[0]) if parts else None


def _has_position_bias(model: Any) -> bool:
    """Return whether any attention of the model adds such a bias."""
    shared = (getattr(model, name, None) for name in ("rel_pos_bias", "shared_rel_pos"))
    return any(part is not None for part in shared) or any(
        getattr(block.attn, name, None) is not None
        for block in model.blocks
        for name in ("relative_position_bias_table", "rel_pos")
    )


def query_key_value(
    attention: Any, x: Tensor, kwargs: Mapping[str, Any]
) -> tuple[Tensor, Tensor, Tensor, float]:
    """Project [B, N, D] to queries, keys and values [B, heads, N, d] as the module itself does."""
    batch, length, _ = x.shape
    heads = attention.num_heads
    if getattr(attention, "qkv", None) is not None:
        if getattr(attention, "q_bias", None) is None:
            qkv = attention.qkv(x)
        else:
            bias = torch.cat([held(attention, name) for name in ("q_bias", "k_bias", "v_bias")])
            qkv = F.linear(x, held(attention.qkv, "weight"), bias)
        q, k, v = qkv.reshape(batch, length, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    else:
        key_heads = getattr(attention, "num_kv_heads", heads)
        q = attention.q_proj(x).reshape(batch, length, heads, -1).transpose(1, 2)
        k, v = (
            project(x).reshape(batch, length, key_heads, -1).transpose(1, 2)
            for project in (attention.k_proj, attention.v_proj)
        )
    if hasattr(attention, "q_norm"):
        q, k = attention.q_norm(q), attention.k_norm(k)
    if kwargs.get("rope") is not None:
        q, k = _rotate(attention, q, kwargs["rope"]), _rotate(attention, k, kwargs["rope"])
    if k.shape[1] != heads:
        k, v = (part.repeat_interleave(heads // part.shape[1], dim=1) for part in (k, v))
    return q, k, v, float(attention.scale)


def value(attention: Any, x: Tensor, kwargs: Mapping[str, Any]) -> Tensor:
    """Project [B, N, D] to values [B, heads, N, d] as the module itself does."""
    if getattr(attention, "qkv", None) is None or not isinstance(attention.qkv, nn.Linear):
        return query_key_value(attention, x, {})[2]
    own = getattr(attention, "q_bias", None) is None
    bias = held(attention.qkv, "bias") if own else held(attention, "v_bias")
    weight = held(attention.qkv, "weight").chunk(3)[2]
    v = F.linear(x, weight, None if bias is None else bias[-len(weight) :])
    return v.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)


def heads_output(attention: Any) -> HeadsOutput:
    """Return what follows the heads in an attention module."""
    norm = getattr(attention, "norm", None)
    norm = None if isinstance(norm, nn.Identity) else norm
    return HeadsOutput(attention.proj, norm, getattr(attention, "gate", None))


def branch_scale(block: Any) -> Tensor | None:
    """Return the layer scale of a block's attention branch, [D], or None.

    Raises:
        ModelError: the branch ends in a norm.
    """
    if type(block).__name__ in {"ResPostBlock", "ResPostRelPosBlock", "EvaBlockPostNorm"}:
        raise ModelError(
            f"block {type(block).__name__} normalises what its attention gives, so contributions cannot be "
            "told apart; needed a block with its norm before the attention"
        )
    if hasattr(block, "gamma_1"):
        return held(block, "gamma_1")
    scale = getattr(block, "ls1", None)
    return held(scale, "gamma") if hasattr(scale, "gamma") else None


def _rotate(attention: Any, x: Tensor, rope: Tensor) -> Tensor:
    from timm.layers import apply_rot_embed_cat

    skipped = attention.num_prefix_tokens
    half = getattr(attention, "rotate_half", False)
    turned = apply_rot_embed_cat(x[:, :, skipped:], rope, half=half)
    return torch.cat([x[:, :, :skipped], turned], dim=2).to(x.dtype)


def own_feature(model: Any, layout: TokenLayout) -> GivenTo | ClsBehind:
    """Return how a timm model makes its global feature: what it gives its head, pooled as it pools.

    DINOv3 without a head is CLS, as its authors publish it, where timm takes the mean of the patches; a head
    that was trained in timm was trained on that mean.
    """
    head = getattr(model, "head", None) or nn.Identity()
    dinov3 = type(getattr(model, "rope", None)).__name__ == "RotaryEmbeddingDinoV3"
    if layout.cls and dinov3 and isinstance(head, nn.Identity):
        return ClsBehind(model, model.norm, layout)
    others = (model.head_dist,) if hasattr(model, "head_dist") else ()
    return GivenTo(model, head, others, partial(_pooling, layout=layout), layout)


def _pooling(model: Any, layout: TokenLayout) -> str:
    """Return in a word what a timm model pools, as timm calls it; of an own forward nothing is known."""
    methods = (getattr(type(model), name, None) for name in ("forward", "forward_features", "forward_head"))
    if any(method is not None and not method.__module__.startswith("timm.") for method in methods):
        return "own forward"
    if hasattr(model, "head_dist"):
        return "distilled"
    nothing = "cls" if layout.cls else "patches"
    return {"token": "cls", "": nothing}.get(model.global_pool, model.global_pool)


def locate(model: Any, *, name: str, weights: Weights, preprocess: Callable | None) -> Backbone:
    """Build the Backbone of a timm model of these classes.

    Raises:
        ModelError: a block of it has no MLP down-projection or an attention that we cannot recompute.
    """
    blocks = list(model.blocks)
    for block in blocks:
        _check_block(block, model)
    embed = model.embeds if hasattr(model, "embeds") else model
    image_size, patch_size, grid = _geometry(model)
    cls = int(embed.cls_token is not None)
    layout = TokenLayout(cls, model.num_prefix_tokens - cls, 0, grid)
    attention = [block.attn for block in blocks]
    norm = getattr(model, "norm", None)  # RETFound takes it off, where its fc_norm comes behind the pooling

    return Backbone(
        model=model,
        name=name,
        layout=layout,
        image_size=image_size,
        patch_size=patch_size,
        num_layers=len(blocks),
        num_neurons=blocks[0].mlp.fc2.in_features,
        num_heads=attention[0].num_heads,
        sites=Sites(
            entry=_entry(model),
            exit=Site(blocks[-1], "output") if norm is None else Site(norm, "input"),
            blocks=tuple(Site(block, "output") for block in blocks),
            mlps=tuple(Site(block.mlp, "input") for block in blocks),
            neurons=tuple(Site(block.mlp.fc2, "input") for block in blocks),
            attention=tuple(Site(module, "input") for module in attention),
            final_norm=nn.Identity() if norm is None else norm,
            tower=model,
            rotary=tuple(module for module in attention if hasattr(module, "num_prefix_tokens")),
            pre_norm=getattr(model, "norm_pre", None),
        ),
        query_key=QueryKey(query_key, passing, picked_up),
        mixing=Mixing(value, heads_output, branch_scale),
        features=own_feature(model, layout),
        preprocess_image=preprocess or _own_preprocess(model, image_size),
        weights=weights,
        any_size=embed is not model or bool(getattr(model, "dynamic_img_size", False)),
        whole_patches=embed is not model and not embed.dynamic_img_pad,
        no_place=NO_PLACE.format(layout.length) if _has_position_bias(model) else "",
    )


NO_PLACE = "adds a learned bias to each pair of its {} positions, and a token that is inserted has none"


def describe(model: Any) -> str:
    """Return ``timm:NAME`` when timm made the model, else its class name."""
    config = getattr(model, "pretrained_cfg", None) or {}
    architecture = config.get("architecture")
    return f"timm:{architecture}" if architecture else type(model).__name__


def _check_block(block: Any, model: Any) -> None:
    attention, mlp = getattr(block, "attn", None), getattr(block, "mlp", None)
    if not hasattr(getattr(mlp, "fc2", None), "in_features"):
        has = "no MLP of its own" if mlp is None else f"the MLP {type(mlp).__name__}"
        raise ModelError(
            f"block {type(block).__name__} of {describe(model)}{_stem(model)} has {has}, without a "
            "down-projection mlp.fc2; needed a timm block with a separate MLP (Block, EvaBlock, ...)"
        )
    if type(attention).__name__ not in ATTENTION:
        raise ModelError(
            f"attention {type(attention).__name__} of {describe(model)} is not known; "
            f"needed timm's {', '.join(sorted(ATTENTION))}"
        )


def _entry(model: Any) -> Site:
    if hasattr(model, "norm_pre"):
        return Site(model.norm_pre, "input")
    return Site(model.pos_drop, "output") if hasattr(model, "pos_drop") else Site(model.blocks[0], "input")


def _stem(model: Any) -> str:
    """Name the network ahead of the blocks, where the patches are not cut from the image itself."""
    ahead = getattr(getattr(model, "patch_embed", None), "backbone", None)
    return "" if ahead is None else f" (a hybrid, with {type(ahead).__name__} ahead of its blocks)"


def _geometry(model: Any) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Return image and patch size in pixels and the patch grid, each (height, width)."""
    if not hasattr(model, "embeds"):
        embed = model.patch_embed
        image, grid = _pair(embed.img_size), _pair(embed.grid_size)
        if _stem(model):  # its patches are cut from feature maps
            return image, (image[0] // grid[0], image[1] // grid[1]), grid
        return image, _pair(embed.patch_size), grid
    grid = _pair(model.embeds.pos_embed_grid_size or (16, 16))
    patch = _pair(model.embeds.patch_size)
    return (grid[0] * patch[0], grid[1] * patch[1]), patch, grid


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _own_preprocess(model: Any, image_size: tuple[int, int]) -> Callable | None:
    if not getattr(model, "pretrained_cfg", None):
        return None
    from timm.data import create_transform, resolve_model_data_config

    config = resolve_model_data_config(model)
    config["input_size"] = (3, *image_size)
    return create_transform(**config, is_training=False)
