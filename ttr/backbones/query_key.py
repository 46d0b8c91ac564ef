"""Queries and keys of an attention: as it projects them from an input, or as they pass in a run of its own.

The first costs a second projection, and is for whoever holds an attention's input alone. Where the module
hands its queries and keys through modules, they can be picked up there for nothing. nn.MultiheadAttention
does not; but a key is linear in its token, so a row's logits are

    q . (W_k x + b_k) = (W_k^T q) . x + a number that the softmax does not see,

and the few queries of the rows that are wanted are projected back instead of all keys forth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ttr.hooks import Site

Arguments = Mapping[str, Any]


def nowhere(attention: Any) -> tuple[Site, ...]:
    """Return that no queries and keys can be picked up."""
    return ()


@dataclass(frozen=True)
class QueryKey:
    """A family's way to queries and keys, each [B, heads, N, d], and the scale of their products.

    Attributes:
        project: (attention, its input [B, N, D], its keyword arguments) -> (q, k, scale).
        passing: attention -> the sites at which they pass in the module's run, if there are any.
        picked_up: (attention, what passed there, its keyword arguments, rows) -> (q, k, scale), with the
            queries of the tokens ``rows`` alone.
        back: (attention, its input, rows) -> (queries of ``rows`` projected back, [B, heads, Q, D], scale).
    """

    project: Callable[[Any, Tensor, Arguments], tuple[Tensor, Tensor, float]]
    passing: Callable[[Any], tuple[Site, ...]] = nowhere
    picked_up: Callable[[Any, list[Tensor], Arguments, slice], tuple[Tensor, Tensor, float]] | None = None
    back: Callable[[Any, Tensor, slice], tuple[Tensor, float]] | None = None

    def __call__(self, attention: Any, x: Tensor, kwargs: Arguments) -> tuple[Tensor, Tensor, float]:
        """Return (q, k, scale) of an attention's input."""
        return self.project(attention, x, kwargs)
