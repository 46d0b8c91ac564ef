"""Locate the sites of a vision model of Hugging Face transformers, alone or inside a larger model.

DINOv2 and DINOv3 normalise every token at the end; CLIP normalises CLS alone, so the registers have to be out
of its ``last_hidden_state`` before that; SigLIP has no CLS and pools its patches by attention. DINOv3's
rotary embedding turns the last tokens, as many as there are patches, so registers behind the prefix stay
unturned without our doing. All of them collect ``hidden_states`` and ``attentions`` by hooks of their own in
the blocks; ``Sites.collected`` says where these come out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from ttr.backbones.base import Backbone, Sites, Weights
from ttr.backbones.given_to import own_way, passed
from ttr.backbones.mixing import HeadsOutput, Mixing
from ttr.backbones.offload import held
from ttr.errors import ModelError
from ttr.hooks import Site
from ttr.tokens import TokenLayout


@dataclass(frozen=True)
class Parts:
    """What the modules of one tower class are called, and how it differs.

    Attributes:
        encoder: attribute of the tower that holds the blocks.
        blocks: attribute of the encoder, its list of blocks.
        attention: attribute of a block.
        norm: attribute of the tower, the norm behind the blocks.
        cls: number of CLS tokens.
        norm_sees_cls_alone: whether that norm is given CLS only, not the sequence.
        any_size: whether other image sizes need no flag; the others take ``interpolate_pos_encoding=True``.
        pooling: what its ``pooler_output`` is, in a word: the feature that its authors publish.
    """

    encoder: str = "encoder"
    blocks: str = "layer"
    attention: str = "attention"
    norm: str = "layernorm"
    cls: int = 1
    norm_sees_cls_alone: bool = False
    any_size: bool = True
    pooling: str = "cls"


_CLIP = Parts(blocks="layers", attention="self_attn", norm="post_layernorm", any_size=False)
#: Classes that are a vision tower themselves.
TOWERS = {
    "Dinov2Model": Parts(),
    "Dinov2WithRegistersModel": Parts(),
    "DINOv3ViTModel": Parts(encoder="model", norm="norm"),
    "CLIPVisionModel": replace(_CLIP, norm_sees_cls_alone=True),
    "SiglipVisionModel": replace(_CLIP, cls=0, pooling="map"),
}
#: Classes around a tower, and the attribute that holds it.
AROUND = {
    "CLIPVisionModelWithProjection": "vision_model",
    "CLIPModel": "vision_model",
    "CLIPForImageClassification": "vision_model",
    "SiglipModel": "vision_model",
    "SiglipForImageClassification": "vision_model",
    "Dinov2ForImageClassification": "dinov2",
    "Dinov2WithRegistersForImageClassification": "dinov2_with_registers",
}


def class_of(module: nn.Module) -> str:
    """Return the name of the transformers class that ``module`` is of and that we know, or ""."""
    known = (*TOWERS, *AROUND)
    ours = (kind for kind in type(module).__mro__ if kind.__module__.startswith("transformers.models."))
    return next((kind.__name__ for kind in ours if kind.__name__ in known), "")


def tower_inside(model: Any) -> str:
    """Return where a larger model holds a tower that we know, such as ``.vision_tower``, or ""."""
    modules = model.named_modules() if isinstance(model, nn.Module) else ()
    found = (name for name, module in modules if name and class_of(module))
    return next((f".{name}" for name in found), "")


def query_key(attention: Any, x: Tensor, kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor, float]:
    """Project [B, N, D] to queries and keys [B, heads, N, d] as the module itself does, RoPE included."""
    batch, length, _ = x.shape
    q, k = (
        project(x).view(batch, length, -1, attention.head_dim).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj)
    )
    if kwargs.get("position_embeddings") is not None:
        from transformers.models.dinov3_vit.modeling_dinov3_vit import apply_rotary_pos_emb

        q, k = apply_rotary_pos_emb(q, k, *kwargs["position_embeddings"])
    return q, k, attention.head_dim**-0.5


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
            f"({type(error).__name__}: {error}); pip install 'test-time-registers[transformers]' brings one"
        ) from error
    if getattr(tower, "use_head", True) is False:
        raise ModelError(
            f"{name} was built without its pooling head and gives no global feature; "
            "build it with vision_use_head=True"
        )
    config = tower.config
    image_size, patch_size = _pair(config.image_size), _pair(config.patch_size)
    grid = (image_size[0] // patch_size[0], image_size[1] // patch_size[1])
    return Backbone(
        model=model,
        name=name,
        layout=TokenLayout(parts.cls, getattr(config, "num_register_tokens", 0), 0, grid),
        image_size=image_size,
        patch_size=patch_size,
        num_layers=len(sites.blocks),
        num_neurons=down.in_features,
        num_heads=config.num_attention_heads,
        sites=sites,
        query_key=query_key,
        mixing=Mixing(value, heads_output, branch_scale, {"attention_mask": None}),
        features=PooledFeature(model, tower, parts.any_size, _pooling(model, parts)),
        preprocess_image=preprocess,
        weights=weights,
        any_size=parts.any_size,
        whole_patches=True,
    )


def _sites(tower: Any, parts: Parts) -> Sites:
    encoder, norm = getattr(tower, parts.encoder), getattr(tower, parts.norm)
    blocks = list(getattr(encoder, parts.blocks))
    return Sites(
        entry=Site(tower.embeddings, "output"),
        exit=Site(encoder, "output") if parts.norm_sees_cls_alone else Site(norm, "input"),
        blocks=tuple(Site(block, "output") for block in blocks),
        mlps=tuple(Site(block.mlp, "input") for block in blocks),
        neurons=tuple(Site(_down_projection(block.mlp), "input") for block in blocks),
        attention=tuple(Site(getattr(block, parts.attention), "input") for block in blocks),
        final_norm=norm,
        tower=tower,
        collected=Site(tower, "result"),
    )


def _pooling(model: Any, parts: Parts) -> str:
    if isinstance(getattr(model, "classifier", None), nn.Module):
        return "classifier"
    return "tower" if getattr(model, "visual_projection", None) is not None else parts.pooling


@dataclass(frozen=True)
class PooledFeature:
    """The global feature of a transformers model: what its classifier is given, or its authors' own feature.

    That is the pooled output: CLS after the final norm for DINOv2, DINOv3 and CLIP, the attention head's for
    SigLIP, projected where the model has a projection. A classifier is given more or less than that: CLS and
    the mean of the patches side by side for DINOv2, their mean alone for CLIP and SigLIP.

    Attributes:
        model: the whole model.
        tower: the vision model in it.
        any_size: whether other image sizes than the native one need no flag.
        pooling: which of these it is, in a word.
    """

    model: Any
    tower: Any
    any_size: bool
    pooling: str

    def __call__(self, images: Tensor) -> Tensor:
        """Return [B, D] of images [B, 3, H, W]."""
        native = _pair(self.tower.config.image_size)
        flag = not self.any_size and tuple(images.shape[-2:]) != native
        sized = {"interpolate_pos_encoding": True} if flag else {}
        if self.pooling == "classifier":
            head = self.model.classifier
            seen, _ = passed([head], "input", lambda: own_way(self.model)(images, **sized))
            return seen[head]
        pooled = self.tower(images, return_dict=True, **sized).pooler_output
        projection = getattr(self.model, "visual_projection", None)
        return pooled if projection is None else projection(pooled)


def _down_projection(mlp: Any) -> Any:
    return mlp.down_proj if hasattr(mlp, "down_proj") else mlp.fc2


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
