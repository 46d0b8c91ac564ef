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
    found,
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
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    below = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, length, ROWS):
        token = (start + tl.arange(0, ROWS))[:, None]
        there = (token < length) & (neuron < width)[None, :]
        value = tl.load(column + token.to(tl.int64) * token_stride, mask=there, other=1.0).to(tl.float32)
        patch = there & (token >= first) & (token < last)
        total += tl.where(patch, tl.abs(value), 0.0)
        below += tl.where(value < 0.5, 1.0, 0.0)
    place = item * width + neuron
    tl.store(found + place, tl.sum(total, 0), mask=neuron < width)
    tl.store(found + tl.num_programs(0) * width + place, tl.sum(below, 0), mask=neuron < width)


def reduce(x: Tensor, found: Tensor, patches: slice) -> None:
    """Write the sum of |x| over the patches, and the number of tokens below 0.5, into ``found``.

    Args:
        x: activations [B, N, hidden], float32, float16 or bfloat16, of any strides.
        found: contiguous float32 [2, B, hidden].
        patches: where the patches are along the token axis.
    """
    items, length, width = x.shape
    with torch.cuda.device_of(x):
        _reduce[(items, triton.cdiv(width, COLUMNS))](
            x,
            found,
            length,
            width,
            patches.start,
            patches.stop,
            *x.stride(),
            ROWS=ROWS,
            COLUMNS=COLUMNS,
        )
