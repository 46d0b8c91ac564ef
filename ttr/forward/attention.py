"""Attention rows, recomputed from the queries and keys of a block.

A fused attention kernel never shows its map. Rather than switch it off, which would change the model that
is being looked at, the rows that matter (CLS and registers as queries) are computed again from what the
attention module was given:

    A = softmax(q k^T * d^-1/2),   q, k after the module's own norms and rotary embedding.

Memory is O(heads x rows x N) a block, never N x N: who needs all rows projects once (:func:`project`) and
takes them in chunks. The softmax runs in fp32. Where an attention bias stands
(:mod:`ttr.registers.attention_bias`), its key takes part in the softmax and its column is left out: the rows
are what the tokens hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ttr.backbones.base import Backbone
from ttr.backbones.extra_key import extra_key


@dataclass(frozen=True, eq=False)
class Projected:
    """What one attention module made of its input.

    Attributes:
        queries: scaled by d^-1/2, [B, heads, N, d].
        keys: [B, heads, N, d]; one more where an attention bias stands.
        length: number N of tokens.
        heads: how many heads stand one after the other among the queries, [B, 1, heads * Q, D], where the
            tokens themselves are the keys of each, [B, 1, N, D]; else None.
    """

    queries: Tensor
    keys: Tensor
    length: int
    heads: int | None = None

    def rows(self, rows: slice) -> Tensor:
        """Return attention of the query tokens ``rows`` over all tokens, as :func:`attention_rows` does."""
        logits = self.queries[:, :, rows] @ self.keys.transpose(-2, -1)
        found = logits.float().softmax(dim=-1)[..., : self.length]
        return found if self.heads is None else found[:, 0].unflatten(1, (self.heads, -1))


def project(backbone: Backbone, module: nn.Module, x: Tensor, kwargs: Mapping[str, Any]) -> Projected:
    """Return the queries and keys of an attention input; the arguments are :func:`attention_rows`'."""
    q, k, scale = backbone.query_key(module, x, kwargs)
    return Projected(q * scale, beside_bias(module, k), x.shape[1])


def beside_bias(module: nn.Module, keys: Tensor) -> Tensor:
    """Return keys [B, heads, N, d] and behind them that of the attention bias, if one stands."""
    bias = extra_key(module)
    if bias is None:
        return keys
    return torch.cat([keys, bias.to(keys)[None, :, None].expand(keys.shape[0], -1, -1, -1)], dim=2)


def attention_rows(
    backbone: Backbone, module: nn.Module, x: Tensor, kwargs: Mapping[str, Any], rows: slice
) -> Tensor:
    """Return attention of the query tokens ``rows`` over all tokens.

    Args:
        backbone: the family whose projection applies.
        module: the block's attention module.
        x: its input, [B, N, D], after the block's first norm.
        kwargs: its keyword arguments (the rotary embedding).
        rows: query tokens along the token axis.

    Returns:
        Float32 probabilities [B, heads, rows, N]; each row sums to 1, less what an attention bias holds.
    """
    return project(backbone, module, x, kwargs).rows(rows)
