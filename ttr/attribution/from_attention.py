"""Where a model looks, whatever its answer: attention, attention times what it takes, and rollout.

    attention         mean_h A_h[q]                                     of one block
    value-attention   mean_h A_h[q, i] |W_h v_hi|                       of one block (Kobayashi et al. 2020)
    rollout           row q of the product of (mean_h A + I), rows made to sum to 1, over all blocks
                      (Abnar and Zuidema 2020)

with heads h, queries q, tokens i, values v, and W_h the part of the output projection that head h meets.
"""

from __future__ import annotations

from numbers import Integral

import torch
from torch import Tensor

from ttr.attribution.passes import Pass
from ttr.attribution.rows import Query, on_grid, reading_row, through_blocks
from ttr.errors import ModelError, OptionError


def attention(seen: Pass, block: int, head: int | None, query: Query | None) -> Tensor:
    """Return attention of one block, [B, rows, columns]."""
    return on_grid(seen.layout, _of_heads(_rows(seen, block, query), head))


def value_attention(seen: Pass, block: int, head: int | None, query: Query | None) -> Tensor:
    """Return attention of one block times the length of what it takes, [B, rows, columns]."""
    return on_grid(seen.layout, _of_heads(_rows(seen, block, query) * _value_lengths(seen, block), head))


def rollout(seen: Pass, query: Query | None) -> Tensor:
    """Return the product over all blocks, [B, rows, columns]."""
    means = (seen.attention(block).mean(dim=1) for block in reversed(range(len(seen.blocks))))
    return on_grid(seen.layout, through_blocks(reading_row(seen, query), means, normalised=True))


def _rows(seen: Pass, block: int, query: Query | None) -> Tensor:
    """Return the attention that is read, [B, heads, N]."""
    weights = seen.attention(block)
    return torch.einsum("bq,bhqn->bhn", reading_row(seen, query).to(weights), weights)


def _of_heads(found: Tensor, head: int | None) -> Tensor:
    """Return one head of [B, heads, N], or their mean, [B, N]."""
    if head is None:
        return found.mean(dim=1)
    if isinstance(head, bool) or not isinstance(head, Integral) or head not in range(found.shape[1]):
        raise OptionError(f"attention_head={head!r}; needed 0..{found.shape[1] - 1}, or None for their mean")
    return found[:, int(head)]


def _value_lengths(seen: Pass, block: int) -> Tensor:
    """Return |W_h v_hi| of each head and token, float32 [B, heads, N].

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
