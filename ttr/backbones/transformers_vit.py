"""Locate the sites of a vision model of Hugging Face transformers, alone or inside a larger model.

DINOv2 and DINOv3 normalise every token at the end; CLIP normalises CLS alone, so the registers have to be out
of its ``last_hidden_state`` before that; SigLIP has no CLS and pools its patches by attention. DINOv3's
rotary embedding turns the last tokens, as many as there are patches, so registers behind the prefix stay
unturned without our doing. All of them collect ``hidden_states`` and ``attentions`` by hooks of their own in
the blocks; ``Sites.collected`` says where these come out. A ``...Backbone`` makes its feature maps of what
its encoder collected, so there it is the encoder. I-JEPA pools nothing itself; its classifier takes the mean
of its tokens, and so do we. MAE shuffles its patches, unless it is given a noise that is in order. SigLIP 2
wants patches that were cut out already, each row by row with the colours last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from ttr.backbones.base import Backbone, Sites, Weights
from ttr.backbones.given_to import own_way, passed
from ttr.backbones.mixing import HeadsOutput, Mixing
from ttr.backbones.offload import held
from ttr.backbones.query_key import QueryKey
from ttr.errors import ModelError
from ttr.hooks import Site
from ttr.tokens import TokenLayout
from ttr.wording import install

Call = Callable[[Any, Tensor], dict[str, Any]]


def images_alone(tower: Any, images: Tensor) -> dict[str, Any]:
    """Return what a tower is called with that takes any image size."""
    return {"pixel_values": images}


def with_size_flag(tower: Any, images: Tensor) -> dict[str, Any]:
    """Return what a tower is called with that must be told of another image size than its own."""
    native = _pair(tower.config.image_size)
    flag = {"interpolate_pos_encoding": True} if tuple(images.shape[-2:]) != native else {}
    return {"pixel_values": images, **flag}


def in_order(tower: Any, images: Tensor) -> dict[str, Any]:
    """Return what MAE's encoder is called with, so that its patches stay in order."""
    rows, columns = (
        side // patch for side, patch in zip(images.shape[-2:], _pair(tower.config.patch_size), strict=True)
    )
    noise = torch.arange(rows * columns, dtype=torch.float32, device=images.device)
    return {**with_size_flag(tower, images), "noise": noise.expand(images.shape[0], -1)}


def cut_to_patches(tower: Any, images: Tensor) -> dict[str, Any]:
    """Return what SigLIP 2's tower is called with: patches [B, P, p * p * C], none masked, and their grid."""
    patch = tower.config.patch_size
    cut = images.unflatten(3, (-1, patch)).unflatten(2, (-1, patch)).permute(0, 2, 4, 3, 5, 1)
    grid = torch.tensor(cut.shape[1:3], device=images.device)
    return {
        "pixel_values": cut.flatten(3).flatten(1, 2),
        "pixel_attention_mask": None,
        "spatial_shapes": grid.expand(images.shape[0], -1),
    }


@dataclass(frozen=True)
class Parts:
    """What the modules of one tower class are called, and how it differs.

    Attributes:
        encoder: attribute of the tower that holds the blocks; "" for the tower itself.
        blocks: attribute of the encoder, its list of blocks.
        attention: attribute of a block.
        norm: attribute of the tower, the norm behind the blocks.
        cls: number of CLS tokens.
        norm_sees_cls_alone: whether that norm is given CLS only, not the sequence.
        any_size: whether the tower takes other image sizes.
        call: (tower, images) -> the arguments it is called with.
        maps: whether it gives feature maps of what its encoder collects, not tokens.
        pooling: what its authors publish as its feature, in a word.
    """

    encoder: str = "encoder"
    blocks: str = "layer"
    attention: str = "attention"
    norm: str = "layernorm"
    cls: int = 1
    norm_sees_cls_alone: bool = False
    any_size: bool = True
    call: Call = images_alone
    maps: bool = False
    pooling: str = "cls"


_VIT = Parts(encoder="", blocks="layers", any_size=False, call=with_size_flag)
_CLIP = Parts(
    blocks="layers", attention="self_attn", norm="post_layernorm", any_size=False, call=with_size_flag
)
_DINOV3 = Parts(encoder="model", norm="norm")
#: Classes that are a vision tower themselves.
TOWERS = {
    "Dinov2Model": Parts(),
    "Dinov2WithRegistersModel": Parts(),
    "Dinov2Backbone": Parts(maps=True),
    "Dinov2WithRegistersBackbone": Parts(maps=True),
    "DINOv3ViTModel": _DINOV3,
    "DINOv3ViTBackbone": replace(_DINOV3, maps=True),
    "CLIPVisionModel": replace(_CLIP, norm_sees_cls_alone=True),
    "SiglipVisionModel": replace(_CLIP, cls=0, pooling="map"),
    "Siglip2VisionModel": replace(_CLIP, cls=0, any_size=True, call=cut_to_patches, pooling="map"),
    "ViTModel": _VIT,
    "DeiTModel": _VIT,
    "ViTMSNModel": _VIT,
    "ViTMAEModel": replace(_VIT, call=in_order),
    "IJepaModel": replace(_VIT, cls=0, pooling="avg"),
}
#: Classes around a tower, and the attribute that holds it.
AROUND = {
    "CLIPVisionModelWithProjection": "vision_model",
    "CLIPModel": "vision_model",
    "CLIPForImageClassification": "vision_model",
    "SiglipModel": "vision_model",
    "SiglipForImageClassification": "vision_model",
    "Siglip2Model": "vision_model",
    "Siglip2ForImageClassification": "vision_model",
    "Dinov2ForImageClassification": "dinov2",
    "Dinov2WithRegistersForImageClassification": "dinov2_with_registers",
    "ViTForImageClassification": "vit",
    "ViTForMaskedImageModeling": "vit",
    "ViTMAEForPreTraining": "vit",
    "ViTMSNForImageClassification": "vit",
    "DeiTForImageClassification": "deit",
    "DeiTForImageClassificationWithTeacher": "deit",
    "DeiTForMaskedImageModeling": "deit",
    "IJepaForImageClassification": "ijepa",
}


def class_of(module: nn.Module) -> str:
    """Return the name of the transformers class that ``module`` is of and that we know, or ""."""
    known = (*TOWERS, *AROUND)
    ours = (kind for kind in type(module).__mro__ if kind.__module__.startswith("transformers.models."))
    return next((kind.__name__ for kind in ours if kind.__name__ in known), "")


def knows(model: Any) -> bool:
    """Return whether a model is of such a class."""
    return isinstance(model, nn.Module) and bool(class_of(model))


def describe(model: Any) -> str:
    """Return the description of a model from memory."""
    return f"transformers {type(model).__name__}"


def query_key(attention: Any, x: Tensor, kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor, float]:
    """Project [B, N, D] to queries and keys [B, heads, N, d] as the module itself does, RoPE included."""
    return picked_up(attention, [attention.q_proj(x), attention.k_proj(x)], kwargs, slice(None))


def passing(attention: Any) -> tuple[Site, ...]:
    """Return where queries and keys pass, [B, N, heads * d] each."""
    return Site(attention.q_proj, "output"), Site(attention.k_proj, "output")


def picked_up(
    attention: Any, seen: list[Tensor], kwargs: Mapping[str, Any], rows: slice
) -> tuple[Tensor, Tensor, float]:
    """Return queries of ``rows``, keys and scale of what passed there, turned where the model turns them."""
    q, k = (x.unflatten(2, (-1, attention.head_dim)).transpose(1, 2) for x in seen)
    if kwargs.get("position_embeddings") is not None:
        from transformers.models.dinov3_vit.modeling_dinov3_vit import apply_rotary_pos_emb

        q, k = apply_rotary_pos_emb(q, k, *kwargs["position_embeddings"])
    return q[:, :, rows], k, attention.head_dim**-0.5


def value(attention: Any, x: Tensor, kwargs: Mapping[str, Any]) -> Tensor:
    """Project [B, N, D] to values [B, heads, N, d] as the module itself does."""
    return attention.v_proj(x).unflatten(2, (-1, attention.head_dim)).transpose(1, 2)


def heads_output(attention: Any) -> HeadsOutput:
    """Return what follows the heads in an attention module: its projection."""
    return HeadsOutput(attention.o_proj if hasattr(attention, "o_proj") else attention.out_proj)


def branch_scale(block: Any) -> Tensor | None:
    """Return the layer scale of a block's attention branch, [D], or None."""
    scale = getattr(block, "layer_scale1", None)
    return held(scale, "lambda1") if hasattr(scale, "lambda1") else None


def locate(model: Any, *, name: str, weights: Weights, preprocess: Callable | None) -> Backbone:
    """Build the Backbone of a transformers vision model, or of a model that holds one.

    Raises:
        ModelError: the model has no global feature, or its modules are not those of a tested release.
    """
    kind = class_of(model)
    try:
        tower = getattr(model, AROUND[kind]) if kind in AROUND else model
        parts = TOWERS[class_of(tower)]
        sites = _sites(tower, parts)
        down: Any = sites.neurons[0].module
    except (AttributeError, KeyError) as error:
        raise ModelError(
            f"{name} is built otherwise than in the transformers releases that were tested "
            f"({type(error).__name__}: {error}); {install('transformers')} brings one"
        ) from error
    if getattr(tower, "use_head", True) is False:
        raise ModelError(
            f"{name} was built without its pooling head and gives no global feature; "
            "build it with vision_use_head=True"
        )
    config = tower.config
    if hidden := getattr(config, "mask_ratio", 0):
        raise ModelError(
            f"{name} hides {100 * hidden:.0f} % of the patches at random; set model.config.mask_ratio = 0.0 "
            "first, so that it sees the whole image"
        )
    image_size, patch_size = _image_size(config), _pair(config.patch_size)
    grid = (image_size[0] // patch_size[0], image_size[1] // patch_size[1])
    # DeiT's distillation token is one that the image is no part of.
    registers = getattr(config, "num_register_tokens", int(hasattr(tower.embeddings, "distillation_token")))
    return Backbone(
        model=model,
        name=name,
        layout=TokenLayout(parts.cls, registers, 0, grid),
        image_size=image_size,
        patch_size=patch_size,
        num_layers=len(sites.blocks),
        num_neurons=down.in_features,
        num_heads=config.num_attention_heads,
        sites=sites,
        query_key=QueryKey(query_key, passing, picked_up),
        mixing=Mixing(value, heads_output, branch_scale, {"attention_mask": None}),
        features=PooledFeature(model, tower, parts, _pooling(model, parts)),
        preprocess_image=preprocess,
        weights=weights,
        any_size=parts.any_size,
        whole_patches=True,
    )


def _sites(tower: Any, parts: Parts) -> Sites:
    encoder = getattr(tower, parts.encoder) if parts.encoder else tower
    norm = getattr(tower, parts.norm)
    blocks = list(getattr(encoder, parts.blocks))
    return Sites(
        entry=Site(tower.embeddings, "output"),
        exit=Site(encoder, "output") if parts.norm_sees_cls_alone or parts.maps else Site(norm, "input"),
        blocks=tuple(Site(block, "output") for block in blocks),
        mlps=tuple(Site(block.mlp, "input") for block in blocks),
        neurons=tuple(Site(_down_projection(block.mlp), "input") for block in blocks),
        attention=tuple(Site(getattr(block, parts.attention), "input") for block in blocks),
        final_norm=norm,
        tower=tower,
        collected=Site(encoder if parts.maps else tower, "result"),
        pre_norm=getattr(tower, "pre_layrnorm", None),
    )


def classifiers(model: Any) -> list[nn.Module]:
    """Return the heads of a classifier, two of a distilled one; none of a tower alone."""
    names = ("classifier", "cls_classifier", "distillation_classifier")
    return [getattr(model, name) for name in names if isinstance(getattr(model, name, None), nn.Module)]


def _pooling(model: Any, parts: Parts) -> str:
    if heads := classifiers(model):
        return "classifier" if len(heads) == 1 else "distilled"
    return "tower" if getattr(model, "visual_projection", None) is not None else parts.pooling


@dataclass(frozen=True)
class PooledFeature:
    """The global feature of a transformers model: what its classifier is given, or its authors' own feature.

    That is the pooled output: CLS after the final norm for DINOv2, DINOv3 and CLIP, the attention head's for
    SigLIP, projected where the model has a projection. A classifier is given more or less than that: CLS and
    the mean of the patches side by side for DINOv2, their mean alone for CLIP and SigLIP. ViT's is CLS behind
    the final norm: its pooler, a layer of its pretraining, comes with few checkpoints and is random without.
    A tower that pools nothing gives its CLS, or without CLS the mean of its tokens.

    Attributes:
        model: the whole model.
        tower: the vision model in it.
        parts: how it differs from others.
        pooling: which of these it is, in a word.
    """

    model: Any
    tower: Any
    parts: Parts
    pooling: str

    def __call__(self, images: Tensor) -> Tensor:
        """Return [B, D] of images [B, 3, H, W]."""
        arguments = self.parts.call(self.tower, images)
        if heads := classifiers(self.model):
            seen, _ = passed(heads, "input", lambda: own_way(self.model)(**arguments))
            return torch.stack([seen[head] for head in heads]).mean(dim=0)
        collect = {"output_hidden_states": True} if self.parts.maps else {}
        output = self.tower(**arguments, **collect, return_dict=True)
        pooled = self._pooled(output)
        projection = getattr(self.model, "visual_projection", None)
        return pooled if projection is None else projection(pooled)

    def project(self, cls: Tensor) -> Tensor:
        """Return CLS behind the final norm, [B, D], as the model gives it out: projected, if it projects."""
        projection = getattr(self.model, "visual_projection", None)
        return cls if projection is None or classifiers(self.model) else projection(cls)

    def _pooled(self, output: Any) -> Tensor:
        is_random_without = hasattr(getattr(self.tower, "pooler", None), "dense")
        if getattr(output, "pooler_output", None) is not None and not is_random_without:
            return output.pooler_output
        if self.parts.maps:
            tokens = getattr(self.tower, self.parts.norm)(output.hidden_states[-1])
        else:
            tokens = output.last_hidden_state
        return tokens[:, 0] if self.parts.cls else tokens.mean(dim=1)


def _image_size(config: Any) -> tuple[int, int]:
    """Return the native (height, width): SigLIP 2 knows the number of its patches alone, a square."""
    if hasattr(config, "num_patches"):
        return _pair(isqrt(config.num_patches) * config.patch_size)
    return _pair(config.image_size)


def _down_projection(mlp: Any) -> Any:
    return mlp.down_proj if hasattr(mlp, "down_proj") else mlp.fc2


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
