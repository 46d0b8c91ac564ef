"""Locate the sites of MONAI's two-dimensional ViT, as a classifier or as the encoder of a segmenter.

Without its classification head the model gives tokens and pools nothing; their mean is its feature then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any

from torch import Tensor, nn

from ttr.backbones.base import Backbone, Sites, Weights
from ttr.backbones.given_to import GivenTo, cls_alone
from ttr.backbones.mixing import HeadsOutput, Mixing
from ttr.backbones.query_key import QueryKey
from ttr.errors import ModelError
from ttr.hooks import Site
from ttr.tokens import TokenLayout


def knows(model: Any) -> bool:
    """Return whether a model is MONAI's ViT."""
    return any(
        kind.__module__ == "monai.networks.nets.vit" and kind.__name__ == "ViT"
        for kind in type(model).__mro__
    )


def describe(model: Any) -> str:
    """Return the description of a model from memory."""
    return f"monai {type(model).__name__}"


def query_key(attention: Any, x: Tensor, kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor, float]:
    """Project [B, N, D] to queries and keys [B, heads, N, d] as the module itself does."""
    q, k, _ = _projected(attention, x)
    return q, k, float(attention.scale)


def passing(attention: Any) -> tuple[Site, ...]:
    """Return where queries, keys and values pass together, [B, N, 3 D]."""
    return (Site(attention.qkv, "output"),)


def picked_up(
    attention: Any, seen: list[Tensor], kwargs: Mapping[str, Any], rows: slice
) -> tuple[Tensor, Tensor, float]:
    """Return queries of ``rows``, keys and scale of what passed there."""
    q, k, _ = _parts(attention, seen[0])
    return q[:, :, rows], k, float(attention.scale)


def value(attention: Any, x: Tensor, kwargs: Mapping[str, Any]) -> Tensor:
    """Project [B, N, D] to values [B, heads, N, d] as the module itself does."""
    return _projected(attention, x)[2]


def heads_output(attention: Any) -> HeadsOutput:
    """Return what follows the heads in an attention module: its projection."""
    return HeadsOutput(attention.out_proj)


def branch_scale(block: Any) -> Tensor | None:
    """Return the layer scale of a block's attention branch: there is none."""
    return None


def _projected(attention: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _parts(attention, attention.qkv(x))


def _parts(attention: Any, together: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = together.unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


@dataclass(frozen=True)
class MeanOfTokens:
    """The mean of the tokens that a ViT without a classification head gives."""

    model: Any
    pooling: str = "avg"

    def __call__(self, images: Tensor) -> Tensor:
        """Return [B, D] of images [B, C, H, W]."""
        return self.model(images)[0].mean(dim=1)


def locate(model: Any, *, name: str, weights: Weights, preprocess: Callable | None) -> Backbone:
    """Build the Backbone of a MONAI ViT.

    Raises:
        ModelError: it takes volumes, or its patch grid cannot be told.
    """
    blocks: list[Any] = list(model.blocks)
    patch_size, grid = _geometry(model.patch_embedding, name)
    classifies = hasattr(model, "classification_head")
    return Backbone(
        model=model,
        name=name,
        layout=TokenLayout(int(hasattr(model, "cls_token")), 0, 0, grid),
        image_size=(grid[0] * patch_size[0], grid[1] * patch_size[1]),
        patch_size=patch_size,
        num_layers=len(blocks),
        num_neurons=blocks[0].mlp.linear2.in_features,
        num_heads=blocks[0].attn.num_heads,
        sites=Sites(
            entry=Site(blocks[0], "input"),
            exit=Site(model.norm, "input"),
            blocks=tuple(Site(block, "output") for block in blocks),
            mlps=tuple(Site(block.mlp, "input") for block in blocks),
            neurons=tuple(Site(block.mlp.linear2, "input") for block in blocks),
            attention=tuple(Site(block.attn, "input") for block in blocks),
            final_norm=model.norm,
            tower=model,
            collected=Site(model, "result"),
        ),
        query_key=QueryKey(query_key, passing, picked_up),
        mixing=Mixing(value, heads_output, branch_scale),
        features=(
            GivenTo(model, model.classification_head, says=cls_alone) if classifies else MeanOfTokens(model)
        ),
        preprocess_image=preprocess,
        weights=weights,
    )


def _geometry(embedding: Any, name: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return (height, width) of a patch in pixels, and the patch grid."""
    projection: Any = embedding.patch_embeddings
    if isinstance(projection, nn.Sequential):
        cut: Any = projection[0]
        sizes = tuple(size for axis, size in cut.axes_lengths.items() if axis.startswith("p"))
    else:
        sizes = tuple(projection.kernel_size)
    if len(sizes) != 2:
        raise ModelError(
            f"{name} takes volumes (patches of {'x'.join(map(str, sizes))}); needed a ViT of images, built "
            "with spatial_dims=2"
        )
    side = isqrt(int(embedding.n_patches))
    if side * side != embedding.n_patches:
        raise ModelError(
            f"{name} has {embedding.n_patches} patches and does not keep their grid; needed a square one"
        )
    return (sizes[0], sizes[1]), (side, side)
