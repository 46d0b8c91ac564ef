"""Handles on the weights that read and write the residual stream, the same for timm and open_clip.

Planting needs to know, block by block, which parameters read a dimension of the residual stream and which
write it. Both libraries stack queries, keys and values in one matrix [3 D, D], so one description serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ttr.backbones.base import Backbone
from ttr.errors import ModelError


@dataclass(frozen=True)
class BlockWeights:
    """Parameters of one block: norms, ``qkv`` [3 D, D] with bias, output projection, MLP, layer scales."""

    norm_attention: Any
    qkv_weight: Tensor
    qkv_bias: Tensor
    out: nn.Linear
    norm_mlp: nn.Module
    up: nn.Linear
    down: nn.Linear
    scales: tuple[Tensor, ...]
    heads: int

    def aim(self, width: int, strength: float, key: Mapping[int, float]) -> None:
        """Give the last channel of each head a constant query, and a key along dimensions of the stream.

        Args:
            width: D.
            strength: of the query; the key has as much, times what ``key`` says.
            key: {dimension: times}.
        """
        for channel in range(width // self.heads - 1, width, width // self.heads):
            for part in (channel, width + channel):
                self.qkv_weight[part] = 0
                self.qkv_bias[part] = 0
            self.qkv_bias[channel] = strength
            for dimension, times in key.items():
                self.qkv_weight[width + channel, dimension] = times * strength


@dataclass(frozen=True)
class StreamWeights:
    """Parameters around the blocks: the patch embedding, what is added to tokens, and the blocks."""

    patch_embed: nn.Conv2d
    cls: Tensor
    registers: Tensor | None
    position: Tensor
    position_prefix: int
    blocks: tuple[BlockWeights, ...]


def stream_weights(backbone: Backbone) -> StreamWeights:
    """Return the handles of a timm VisionTransformer or an open_clip VisionTransformer tower.

    Raises:
        ModelError: another family, or no query bias to hold a sink.
    """
    tower: Any = getattr(backbone.model, "visual", backbone.model)
    if type(tower).__name__ != "VisionTransformer":
        raise ModelError(
            f"cannot plant in {type(tower).__name__}; "
            "needed a timm VisionTransformer or an open_clip ViT tower"
        )
    if hasattr(tower, "resblocks") or hasattr(tower, "transformer"):
        return StreamWeights(
            patch_embed=tower.conv1,
            cls=tower.class_embedding,
            registers=None,
            position=tower.positional_embedding,
            position_prefix=1,
            blocks=tuple(_open_clip_block(block) for block in tower.transformer.resblocks),
        )
    if tower.cls_token is None or tower.pos_embed is None:
        raise ModelError("cannot plant in a ViT without CLS or position embedding; choose one that has both")
    return StreamWeights(
        patch_embed=tower.patch_embed.proj,
        cls=tower.cls_token,
        registers=tower.reg_token,
        position=tower.pos_embed[0],
        position_prefix=0 if tower.no_embed_class else tower.num_prefix_tokens,
        blocks=tuple(_timm_block(block) for block in tower.blocks),
    )


def _timm_block(block: Any) -> BlockWeights:
    if block.attn.qkv.bias is None or not isinstance(block.attn.q_norm, nn.Identity):
        raise ModelError("cannot plant in attention without a query bias, or with query-key norms")
    return BlockWeights(
        norm_attention=block.norm1,
        qkv_weight=block.attn.qkv.weight,
        qkv_bias=block.attn.qkv.bias,
        out=block.attn.proj,
        norm_mlp=block.norm2,
        up=block.mlp.fc1,
        down=block.mlp.fc2,
        scales=tuple(s.gamma for s in (block.ls1, block.ls2) if hasattr(s, "gamma")),
        heads=block.attn.num_heads,
    )


def _open_clip_block(block: Any) -> BlockWeights:
    return BlockWeights(
        norm_attention=block.ln_1,
        qkv_weight=block.attn.in_proj_weight,
        qkv_bias=block.attn.in_proj_bias,
        out=block.attn.out_proj,
        norm_mlp=block.ln_2,
        up=block.mlp.c_fc,
        down=block.mlp.c_proj,
        scales=tuple(s.gamma for s in (block.ls_1, block.ls_2) if hasattr(s, "gamma")),
        heads=block.attn.num_heads,
    )
