"""Which row of a matrix over tokens is read, how it goes through the blocks, and its patches on the grid."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any, Literal

import torch
from torch import Tensor

from ttr.attribution.passes import Pass
from ttr.backbones.pooling import pools_by_attention
from ttr.errors import ModelError, OptionError
from ttr.tokens import TokenLayout

Query = Literal["cls", "patches"] | tuple[int, int]


def reading_row(seen: Pass, query: Query | None, slope: Tensor | None = None) -> Tensor:
    """Return how much each token is read, weights of sum 1, float32 [B, N].

    Without a query it is CLS, or the patches alike where the model has no CLS. Where a score is asked, its
    gradient says whether CLS is in it; if not, it is the patches.

    Args:
        seen: the pass.
        query: CLS, the patches alike, or one patch (row, column).
        slope: ds/d(output of the last block), [B, N, D], where there is a score.

    Raises:
        OptionError: no such query.
        ModelError: CLS of a model without CLS; or no query, and a model that pools by attention has no CLS,
            or makes the score.
    """
    layout = seen.layout
    if query is None:
        if pools_by_attention(seen.backbone) and (slope is not None or not layout.cls):
            raise ModelError(
                f"{seen.backbone.name} pools its tokens by an attention, so no row of a block is what its "
                "answer reads; give query='cls', 'patches' (all alike) or (row, column), or choose a method "
                "without rows, such as 'legrad' or 'gradcam'"
            )
        read = layout.cls and (slope is None or bool(layout.select(slope, "cls").any()))
        query = "cls" if read else "patches"
    if isinstance(query, str) and query == "cls":
        seen.backbone.require_cls()
    row = torch.zeros(len(seen.images), layout.length, device=seen.images.device)
    if isinstance(query, str) and query in ("cls", "patches"):
        layout.select(row, query).fill_(1 / (layout.patches if query == "patches" else 1))
    else:
        layout.select(row, "patches")[:, _place(query, layout)] = 1
    return row


def _place(query: Any, layout: TokenLayout) -> int:
    """Return the place of a patch (row, column) among the patches."""
    rows, columns = layout.grid
    pair = isinstance(query, tuple | list) and len(query) == 2
    whole = pair and all(isinstance(x, Integral) and not isinstance(x, bool) for x in query)
    if not whole or not (0 <= query[0] < rows and 0 <= query[1] < columns):
        raise OptionError(
            f"query={query!r}; needed 'cls', 'patches' or a patch (row, column) of the {rows}x{columns} grid"
        )
    return int(query[0]) * columns + int(query[1])


def through_blocks(row: Tensor, matrices: Iterable[Tensor], *, normalised: bool) -> Tensor:
    """Return row (M_L + I) ... (M_1 + I), [B, N], for matrices [B, N, N] from the last block to the first.

    A row goes through, not a matrix: no two blocks' matrices are held at once, and none is multiplied.

    Args:
        row: [B, N].
        matrices: of each block.
        normalised: whether the rows of each factor are made to sum to 1.
    """
    for matrix in matrices:
        sums = 1 + matrix.sum(dim=2) if normalised else torch.ones_like(row)
        row = row / sums
        row = row + torch.einsum("bq,bqn->bn", row.to(matrix), matrix)
    return row


def on_grid(layout: TokenLayout, found: Tensor) -> Tensor:
    """Return the patches of [B, N] on their grid, float32 [B, rows, columns]; no other token is shown."""
    return layout.to_grid(layout.select(found, "patches")).float().clone()
