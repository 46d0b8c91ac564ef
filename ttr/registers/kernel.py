"""The published edit as one Triton kernel a block, for CUDA; imported where it is wanted.

One program an image and neuron. It reads the neuron's column over the tokens, finds its signed maximum v (or
its maximum), and writes the column anew: scale_r v at register r, 0 at every other token that is not to be
kept. What is computed, ties and NaN included, is what :class:`ttr.registers.move.MoveNeurons` computes in
plain PyTorch; the tests hold one against the other in Triton's interpreter.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

#: Tokens that a program holds at once; of a longer column it takes several.
MOST_AT_ONCE = 1024


@triton.jit
def _move(  # type: ignore[no-untyped-def]
    x,
    neurons,
    scales,
    length,
    first,
    registers,
    kept,
    item_stride,
    token_stride,
    neuron_stride,
    SIGNED: tl.constexpr,  # noqa: N803
    SCALED: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    neuron = tl.load(neurons + tl.program_id(1)).to(tl.int64)
    column = x + tl.program_id(0).to(tl.int64) * item_stride + neuron * neuron_stride
    high = tl.full((BLOCK,), float("-inf"), tl.float32)
    low = tl.full((BLOCK,), float("inf"), tl.float32)
    lost = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, length, BLOCK):
        token = start + tl.arange(0, BLOCK)
        there = token < length
        value = tl.load(column + token.to(tl.int64) * token_stride, mask=there, other=0.0).to(tl.float32)
        high = tl.maximum(high, tl.where(there, value, float("-inf")))
        low = tl.minimum(low, tl.where(there, value, float("inf")))
        lost += (value != value).to(tl.int32)
    moved, least = tl.max(high, 0), tl.min(low, 0)
    if SIGNED:
        moved = tl.where(moved > -least, moved, least)
    moved = tl.where(tl.max(lost, 0) > 0, float("nan"), moved)
    for start in range(0, length, BLOCK):
        token = start + tl.arange(0, BLOCK)
        register = token - first
        inside = (register >= 0) & (register < registers)
        value = tl.where(inside, moved, 0.0)
        if SCALED:
            value = value * tl.load(scales + register, mask=inside, other=0.0).to(tl.float32)
        given = (token >= kept) & (token < length)
        tl.store(column + token.to(tl.int64) * token_stride, value.to(x.dtype.element_ty), mask=given)


def move(
    x: Tensor,
    neurons: Tensor,
    *,
    first: int,
    registers: int,
    kept: int,
    signed: bool = True,
    scales: Tensor | None = None,
) -> None:
    """Edit activations [B, N, hidden] in place: float32, float16 or bfloat16, of any strides.

    Args:
        x: the activations.
        neurons: int64 [k], each once.
        first: place of the first register among the tokens.
        registers: how many there are, R.
        kept: how many tokens keep what they have, counted from token 0.
        signed: take the value of largest magnitude; else the maximum.
        scales: [R], in the type of ``x``; None for 1.
    """
    items, length, _ = x.shape
    _move[(items, neurons.numel())](
        x,
        neurons,
        x if scales is None else scales,
        length,
        first,
        registers,
        kept,
        *x.stride(),
        SIGNED=signed,
        SCALED=scales is not None,
        BLOCK=min(triton.next_power_of_2(length), MOST_AT_ONCE),
    )
