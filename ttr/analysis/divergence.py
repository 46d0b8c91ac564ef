"""How far two attention distributions are apart: the Jensen-Shannon divergence (Lin 1991).

    JS(p, q) = 1/2 KL(p || m) + 1/2 KL(q || m),     m = (p + q) / 2,     in nats, 0 .. ln 2.

Attention under a good replacement differs by 1e-3 of itself and less, and the two KL terms, or the three
entropies, then cancel to nothing but rounding. With s = p + q and d = (p - q) / s the same sum is

    JS(p, q) = 1/4 sum s (2 d artanh(d) + log(1 - d^2)),

whose terms are about s d^2 / 4 each and never negative: exact to the type's precision, and exactly 0 for
equal rows.

Two runs need not have the same tokens: a test-time register stands in one and is absent from the other. Both
distributions then live on the union of the tokens, with probability 0 for what a run does not have.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ttr.errors import OptionError
from ttr.tokens import Group, TokenLayout

_PARTS: tuple[Group, ...] = ("cls", "registers", "test_time", "patches")


def js_divergence(p: Tensor, q: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence along the last axis, in nats.

    Args:
        p: probabilities, float [..., N], zeros allowed.
        q: the same support, [..., N].

    Returns:
        [...], 0 (equal) to ln 2 (disjoint), in the type of ``p`` but no narrower than float32.

    Raises:
        OptionError: the two have different supports.
    """
    if p.shape[-1:] != q.shape[-1:]:
        raise OptionError(
            f"got distributions over {tuple(p.shape[-1:])} and {tuple(q.shape[-1:])} tokens; needed one "
            "support; put them there with on_one_support"
        )
    wide = torch.promote_types(torch.promote_types(p.dtype, q.dtype), torch.float32)
    p, q = p.to(wide), q.to(wide)
    total = p + q
    share = ((p - q) / total).nan_to_num_(0.0)  # neither has the token
    square = share.square()
    terms = (2 * share * share.atanh()).add_(square.neg().log1p())
    # Where only one has the token, both parts are infinite and their sum is 2 ln 2.
    terms = torch.where(square < 1, terms, 2 * math.log(2))
    return ((terms * total).sum(dim=-1) / 4).clamp(0, math.log(2))


def on_one_support(
    p: Tensor, layout_p: TokenLayout, q: Tensor, layout_q: TokenLayout
) -> tuple[Tensor, Tensor]:
    """Return both distributions on the union of the two runs' tokens.

    Tokens of a group correspond in order: the first test-time register of one run to the first of the other.

    Args:
        p: [..., N] over the tokens of ``layout_p``.
        layout_p: its tokens.
        q: [..., M] over the tokens of ``layout_q``.
        layout_q: its tokens.

    Returns:
        Two tensors [..., U]; U counts each group of tokens as often as the run that has more of it.

    Raises:
        OptionError: the patch grids differ, or a distribution is of another length than its layout.
    """
    if layout_p.grid != layout_q.grid:
        raise OptionError(
            f"got attention over patch grids {layout_p.grid} and {layout_q.grid}; needed the same patches: "
            "run both at one image size"
        )
    for given, layout in ((p, layout_p), (q, layout_q)):
        if given.shape[-1] != layout.length:
            raise OptionError(f"got {given.shape[-1]} tokens, but the layout has {layout.length}: {layout}")
    if layout_p == layout_q:
        return p, q
    return _padded(p, layout_p, layout_q), _padded(q, layout_q, layout_p)


def _padded(p: Tensor, own: TokenLayout, other: TokenLayout) -> Tensor:
    parts = [own.select(p, group, dim=-1) for group in _PARTS]
    counts = [other.where(group).stop - other.where(group).start for group in _PARTS]
    return torch.cat(
        [F.pad(part, (0, max(0, n - part.shape[-1]))) for part, n in zip(parts, counts, strict=True)], -1
    )
