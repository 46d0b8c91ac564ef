"""Which patches CLS takes from, and whether the map shows these: two checks of the last block's attention.

An attention map shows a_i, how much CLS looks at patch i. What it takes from there is a_i v_i, and a patch
whose value is nothing may hold all the attention and give nothing (an attention sink). So the lengths

    c_i = | W_o sum_h a_hi v_hi |,

with heads h and output projection W_o (Kobayashi et al. 2020, arXiv 2004.10102), stand beside the map:

    agreement   sum_i min(a_i / sum a, c_i / sum c), 1 where the map is bright as patches give, 0 where it is
                bright on those alone that give nothing
    deletion    the tenth of the patches that are brightest in the map is taken out of the block's sum (their
                weights are zero, the others as they were); so are as many random ones, :data:`DRAWS` times.
                The share of the draws that move the feature less than the brightest do

Deletion asks the model itself and knows nothing of lengths; contributions that cancel each other are long,
and taking them out moves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ttr.analysis.integration import remade
from ttr.backbones.base import Backbone
from ttr.forward.blocks import SeenBlock
from ttr.tokens import TokenLayout

DRAWS = 16
SHARE = 0.1


@torch.no_grad()
def contribution_lengths(
    backbone: Backbone, layout: TokenLayout, block: int, seen: SeenBlock, weights: Tensor
) -> Tensor:
    """Return how much each patch gives to CLS in a block, float32 [B, P].

    Args:
        backbone: as it ran.
        layout: the tokens of that pass.
        block: index of the block.
        seen: what :func:`ttr.forward.blocks.watch` saw of it.
        weights: attention of CLS in it, float32 [B, heads, N].
    """
    attention = backbone.sites.attention[block].module
    values = backbone.mixing.value(attention, seen.normed, seen.attention_arguments)
    cls_input = layout.select(seen.normed, "cls")[:, 0]
    output, scale = (
        backbone.mixing.output(attention),
        backbone.mixing.scale(backbone.sites.blocks[block].module),
    )
    lengths = []
    for a, v, x in zip(weights, values, cls_input, strict=True):  # one image at a time: [N, heads * d]
        mixes = (a[:, :, None] * v).transpose(0, 1).flatten(1)
        parts = output.contributions(mixes[:, None].to(x.dtype), x[None])[0][:, 0]
        lengths.append((parts if scale is None else parts * scale).float().norm(dim=1))
    return layout.select(torch.stack(lengths), "patches")


def agreement(attention: Tensor, lengths: Tensor) -> Tensor:
    """Return how far a map is bright where patches give, [B, P] twice -> [B], 0..1."""
    tiny = torch.finfo(torch.float32).tiny
    p, q = (x.float() / x.float().sum(dim=1, keepdim=True).clamp(min=tiny) for x in (attention, lengths))
    return torch.minimum(p, q).sum(dim=1)


@torch.no_grad()
def deletion(
    backbone: Backbone, layout: TokenLayout, block: int, seen: Mapping[int, SeenBlock], weights: Tensor
) -> Tensor:
    """Return the share of random draws that move the feature less than the map's brightest do, [B], 0..1.

    The draws are the same for every image. Arguments as in :func:`ttr.analysis.integration.restricted`.
    """
    make = remade(backbone, layout, block, seen)
    whole = make(weights)
    attention = layout.select(weights.mean(dim=1), "patches")
    count = max(1, round(SHARE * layout.patches))
    generator = torch.Generator().manual_seed(0)

    def moved(patches: Tensor) -> Tensor:
        kept = torch.ones_like(weights)
        layout.select(kept, "patches", dim=2).scatter_(
            2, patches[:, None].expand(-1, weights.shape[1], -1), 0
        )
        return (make(weights * kept) - whole).norm(dim=1)

    brightest = moved(attention.argsort(dim=1, descending=True)[:, :count])
    draws = (
        torch.rand(DRAWS, layout.patches, generator=generator).argsort(dim=1)[:, :count].to(weights.device)
    )
    less = [moved(drawn.expand(len(weights), -1)) < brightest for drawn in draws]
    return torch.stack(less).float().mean(dim=0)
