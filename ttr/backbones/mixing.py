"""From attention weights to what a token receives: values, heads, output projection, layer scale.

Each family says, as data, how one of its blocks turns the mix of the heads into what it adds to a token:

    update = scale * (W (norm(mix) * gate) + b),     mix = sum_i a_i v_i, head by head.

All of it but the norm (EVA-02's CLIP towers have one, most models have none) is linear in the mix, so the
update splits exactly into one contribution a group of tokens. The norm's standard deviation is taken from the
whole mix and held fixed, which makes the norm linear, too. What belongs to no token (the projection's bias,
and the norm's) is a part of its own, the *constant*: it is the same for every image unless a gate scales it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ttr.backbones.offload import held
from ttr.errors import ModelError


@dataclass(frozen=True)
class HeadsOutput:
    """How one attention module turns the mix of its heads, [B, heads * d], into its output, [B, D].

    Attributes:
        projection: the output projection, W and b; a Linear, or what LoRA or quantisation made of it.
        norm: over the concatenated heads, before the projection; None where there is none.
        gate: of the module's own input, through a sigmoid, on the concatenated heads; or None.
    """

    projection: nn.Module
    norm: nn.Module | None = None
    gate: nn.Module | None = None

    def __call__(self, mix: Tensor, x: Tensor) -> Tensor:
        """Return the module's output for a mix [B, heads * d] of a token whose input was ``x`` [B, D]."""
        y = mix if self.norm is None else self.norm(mix)
        return self.projection(y if self.gate is None else y * self.gate(x).sigmoid())

    def contributions(self, mixes: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Split the output for a sum of mixes.

        Args:
            mixes: [G, B, heads * d], one a group of tokens.
            x: the token's input, [B, D].

        Returns:
            What each group contributes, [G, B, D], and the constant, [B, D]; together they are the output.

        Raises:
            ModelError: the norm is none that we can hold fixed.
        """
        parts, constant = mixes, torch.zeros_like(mixes[0])
        if self.norm is not None:
            parts, constant = _held_norm(self.norm, mixes)
        if self.gate is not None:
            gate = self.gate(x).sigmoid()
            parts, constant = parts * gate, constant * gate
        return self._linear(parts), self.projection(constant)

    def _linear(self, x: Tensor) -> Tensor:
        """Return the projection of ``x`` without its bias, whatever stands beside its weight (LoRA)."""
        if isinstance(self.projection, nn.Linear):
            return x @ held(self.projection, "weight").T
        return self.projection(x) - self.projection(torch.zeros_like(x[:1]))


def _held_norm(norm: nn.Module, mixes: Tensor) -> tuple[Tensor, Tensor]:
    """Apply a layer norm with the standard deviation of the sum, its bias apart."""
    if not isinstance(norm, nn.LayerNorm) or len(norm.normalized_shape) != 1:
        raise ModelError(
            f"the heads pass a {type(norm).__name__}, behind which contributions cannot be told apart; "
            "needed a LayerNorm, or no norm"
        )
    whole = mixes.sum(dim=0)
    deviation = (whole.var(dim=-1, correction=0, keepdim=True) + norm.eps).sqrt()
    parts = (mixes - mixes.mean(dim=-1, keepdim=True)) / deviation
    constant = torch.zeros_like(whole)
    weight, bias = held(norm, "weight"), held(norm, "bias")
    if weight is not None:
        parts = parts * weight
    if bias is not None:
        constant = constant + bias
    return parts, constant


@dataclass(frozen=True)
class Mixing:
    """A family's way from attention weights to a token's update.

    Attributes:
        value: (attention module, its input [B, N, D], its keyword arguments) -> values [B, heads, N, d].
        output: attention module -> its :class:`HeadsOutput`.
        scale: block -> the layer scale of its attention branch, [D], or None; ModelError where the branch is
            not linear behind the attention (a norm there).
        block_arguments: what a block must be given besides its tokens when it is run by itself.
    """

    value: Callable[[Any, Tensor, Mapping[str, Any]], Tensor]
    output: Callable[[Any], HeadsOutput]
    scale: Callable[[Any], Tensor | None]
    block_arguments: Mapping[str, Any] = field(default_factory=dict)
