"""Which row of a matrix over tokens is read, what stands in it, and its patches on the grid."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from ttr.attribution.watching import Pass
from ttr.backbones.pooling import Pooled
from ttr.errors import ModelError, OptionError
from ttr.tokens import TokenLayout

Query = Literal["cls", "patches"] | tuple[int, int]


def first_row(seen: Pass, query: Query | None) -> Tensor:
    """Return the tokens that are read, weights of sum 1, float32 [B, N].

    Without a query these are what the model's feature is made of: CLS, or the patches of a model that takes
    their mean.

    Raises:
        OptionError: no such query.
        ModelError: CLS of a model without CLS, or a model that pools neither.
    """
    backbone, layout = seen.backbone, seen.layout
    if query is None:
        if backbone.pooling in ("avg", "patches"):
            query = "patches"
        elif layout.cls:
            query = "cls"
        else:
            raise ModelError(
                f"{backbone.name} has no CLS and pools its tokens otherwise than by their mean "
                f"({backbone.pooling}), so no row is what it reads; give query='patches' or (row, column)"
            )
    if query == "cls":
        backbone.require_cls()
    row = torch.zeros(len(seen.images), layout.length, device=seen.images.device)
    if query in ("cls", "patches"):
        row[:, layout.where(query)] = 1 / (layout.patches if query == "patches" else 1)
        return row
    row[:, _patch(query, layout)] = 1
    return row


def _patch(query: object, layout: TokenLayout) -> int:
    """Return the token of a patch (row, column)."""
    rows, columns = layout.grid
    if (
        not isinstance(query, tuple)
        or len(query) != 2
        or not all(isinstance(x, int) for x in query)
        or not (0 <= query[0] < rows and 0 <= query[1] < columns)
    ):
        raise OptionError(
            f"query={query!r}; needed 'cls', 'patches' or a patch (row, column) of the {rows}x{columns} grid"
        )
    return layout.where("patches").start + query[0] * columns + query[1]


def rolled(row: Tensor, matrices: Iterable[Tensor], *, normalised: bool) -> Tensor:
    """Return row (M_L + I) ... (M_1 + I), [B, N], for matrices [B, N, N] from the last block to the first.

    Args:
        row: [B, N].
        matrices: of each block.
        normalised: whether the rows of each factor are made to sum to 1.
    """
    for matrix in matrices:
        sums = 1 + matrix.sum(dim=2) if normalised else 1.0
        row = row / sums
        row = row + torch.einsum("bq,bqn->bn", row, matrix.to(row))
    return row


def value_lengths(seen: Pass, block: int) -> Tensor:
    """Return |W_o^h v_i^h| of each head and token, float32 [B, heads, N].

    Raises:
        ModelError: a norm or a gate stands between the heads and their projection.
    """
    x, kwargs = seen.inputs[block]
    module = seen.backbone.sites.attention[block].module
    output = seen.backbone.mixing.output(module)
    if output.norm is not None or output.gate is not None:
        raise ModelError(
            f"the heads of {seen.backbone.name} pass a norm or a gate before they are projected, so a value "
            "has no length of its own behind it; choose another method, such as 'attention'"
        )
    values = seen.backbone.mixing.value(module, x, kwargs)
    lengths = []
    for head in range(values.shape[1]):
        alone = torch.zeros_like(values)
        alone[:, head] = values[:, head]
        written, _ = output.contributions(alone.transpose(1, 2).flatten(2)[None], x)
        lengths.append(written[0].float().norm(dim=-1))
    return torch.stack(lengths, dim=1)


def of_heads(found: Tensor, attention_head: int | None) -> Tensor:
    """Return one head of [B, heads, N], or their mean, [B, N].

    Raises:
        OptionError: there is no such head.
    """
    if attention_head is None:
        return found.mean(dim=1)
    if isinstance(attention_head, bool) or attention_head not in range(found.shape[1]):
        raise OptionError(f"attention_head={attention_head!r}; needed 0..{found.shape[1] - 1}, or None")
    return found[:, attention_head]


def on_grid(layout: TokenLayout, found: Tensor) -> Tensor:
    """Return the patches of [B, N] on their grid, float32 [B, rows, columns]."""
    return layout.to_grid(layout.select(found, "patches")).float().clone()


def feature_behind(seen: Pass, tokens: Tensor) -> Tensor:
    """Return the feature [B, E] that a block's output [B, N, D] would be, behind the final norm."""
    backbone = seen.backbone
    split = seen.layout.split(backbone.sites.final_norm.forward(tokens))
    if isinstance(backbone.features, Pooled):
        return split.pooled(backbone.features.pooling)
    if backbone.pooling == "patches" or split.cls is None:
        return split.pooled("patches")
    return backbone.given_out(split.cls)


def require_final_feature(seen: Pass) -> None:
    """Raise ModelError unless the last block's output becomes the model's feature in that way."""
    with torch.no_grad():
        made = feature_behind(seen, seen.blocks[-1])
    own = seen.feature.detach()
    if made.shape != own.shape or (made - own).float().norm() > 1e-2 * own.float().norm():
        raise ModelError(
            f"the feature of {seen.backbone.name} ({seen.backbone.pooling}) is not CLS, nor the mean of the "
            "patches, behind its final norm, so a block's own output has no score; give "
            "backbone.with_pooling('cls' or 'patches') and a head= on that, or choose another method"
        )
