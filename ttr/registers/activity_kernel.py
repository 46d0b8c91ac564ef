"""Sums and counts over the tokens as one Triton kernel a block, for CUDA; imported where it is wanted.

One program an image and strip of neurons. It walks down the tokens once, adds up |activation| over the
patches and counts the tokens below 0.5, as :func:`ttr.registers.activity.sums_and_quiet` does in plain
PyTorch; the tests hold one against the other in Triton's interpreter.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Tokens that a program reads at once, and neurons of its strip.
ROWS, COLUMNS = 16, 128


@triton.jit
def _reduce(  # type: ignore[no-untyped-def]
    x,
    sums,
    quiet,
    length,
    width,
    first,
    last,
    item_stride,
    token_stride,
    neuron_stride,
    ROWS: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
):
    item = tl.program_id(0).to(tl.int64)
    neuron = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    column = x + item * item_stride + neuron.to(tl.int64)[None, :] * neuron_stride
    total = tl.zeros((COLUMNS,), tl.float32)
    below = tl.zeros((COLUMNS,), tl.float32)
    for start in range(0, length, ROWS):
        token = (start + tl.arange(0, ROWS))[:, None]
        there = (token < length) & (neuron < width)[None, :]
        value = tl.load(column + token.to(tl.int64) * token_stride, mask=there, other=1.0).to(tl.float32)
        patch = there & (token >= first) & (token < last)
        total += tl.sum(tl.where(patch, tl.abs(value), 0.0), 0)
        below += tl.sum(tl.where(value < 0.5, 1.0, 0.0), 0)
    tl.store(sums + item * width + neuron, total, mask=neuron < width)
    tl.store(quiet + item * width + neuron, below, mask=neuron < width)


def reduce(x: Tensor, sums: Tensor, quiet: Tensor, patches: slice) -> None:
    """Write the sum of |x| over the patches and the number of tokens below 0.5 into two float32 [B, hidden].

    Args:
        x: activations [B, N, hidden], float32, float16 or bfloat16, of any strides.
        sums: where the sums go, contiguous.
        quiet: where the numbers go, contiguous.
        patches: where the patches are along the token axis.
    """
    items, length, width = x.shape
    with torch.cuda.device_of(x):
        _reduce[(items, triton.cdiv(width, COLUMNS))](
            x,
            sums,
            quiet,
            length,
            width,
            patches.start,
            patches.stop,
            *x.stride(),
            ROWS=ROWS,
            COLUMNS=COLUMNS,
        )
