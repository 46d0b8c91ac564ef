"""What is kept of neuron activations [B, N, hidden] as they pass: two numbers a neuron and image.

The sum of |activation| over the patches, and how many tokens are quiet (below 0.5). The activations are the
largest tensors of a pass, and reading them is what this costs. On CUDA one Triton kernel reads them once
(:mod:`ttr.registers.activity_kernel`). On the CPU they are taken in tiles that stay in the cache: they come
from memory once.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from ttr.tokens import TokenLayout

SPARSE_BELOW = 0.5
SPARSE_SHARE = 0.5
#: Activations of a tile, for each thread of the CPU: half a megabyte, twice, fits into its cache.
TILE = 2**17
#: Types of activations that the kernel sums as plain torch does.
KERNEL_TYPES = {torch.float32, torch.float16, torch.bfloat16}


class Activity:
    """Observer of a pass that keeps two numbers a neuron and image, a block after the other.

    ``sparse[l]``: bool [B, hidden], the sparsity filter. ``patch_sums[l]``: float32 at least [B, hidden], the
    sum of |activation| over the patches.
    """

    def __init__(self, layout: TokenLayout, sparsity: bool) -> None:
        self.patches = layout.where("patches")
        self.sparsity = sparsity
        self.sparse: list[Tensor] = []
        self.patch_sums: list[Tensor] = []

    def __call__(self, layer: int, activations: Tensor) -> None:
        """Take the activations of one block, [B, N, hidden], as they pass."""
        sums, quiet = sums_and_quiet(activations, self.patches, self.sparsity)
        self.patch_sums.append(sums)
        self.sparse.append(quiet >= SPARSE_SHARE * activations.shape[1])


def sums_and_quiet(x: Tensor, patches: slice, sparsity: bool = True) -> tuple[Tensor, Tensor]:
    """Return the sum of |x| over the patches, and the number of tokens below 0.5 (all, without ``sparsity``).

    Args:
        x: activations [B, N, hidden].
        patches: where the patches are along the token axis.
        sparsity: whether to count.

    Returns:
        Both [B, hidden], in float32 at least.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    sums = x.new_empty((x.shape[0], x.shape[2]), dtype=wide)
    quiet = torch.full_like(sums, x.shape[1])
    if x.is_cuda and x.dtype in KERNEL_TYPES and kernel_works(x.device):
        from ttr.registers.activity_kernel import reduce

        reduce(x, sums, quiet if sparsity else torch.empty_like(quiet), patches)
        return sums, quiet
    items, columns = _tile(x)
    for first in range(0, x.shape[0], items):
        for left in range(0, x.shape[2], columns):
            part = (slice(first, first + items), slice(left, left + columns))
            seen = x[part[0], :, part[1]]
            held = torch.abs(seen)
            torch.sum(held[:, patches], 1, dtype=wide, out=sums[part])
            if sparsity:
                torch.lt(seen, SPARSE_BELOW, out=held)
                torch.sum(held, 1, dtype=wide, out=quiet[part])
    return sums, quiet


def _tile(x: Tensor) -> tuple[int, int]:
    """Return of how many images and neurons a tile is; where there is no cache to stay in, of all."""
    if x.device.type != "cpu":
        return x.shape[0], x.shape[2]
    held = TILE * torch.get_num_threads() // x.shape[1]  # columns of tokens
    return max(held // x.shape[2], 1), min(max(held, 64), x.shape[2])


@cache
def kernel_works(device: torch.device) -> bool:
    """Return whether the Triton kernel can be built for a CUDA device and counts two numbers right."""
    try:
        from ttr.registers.activity_kernel import reduce

        x = torch.tensor([[[1.0], [-2.0]]], device=device)
        sums, quiet = x.new_empty(1, 1), x.new_empty(1, 1)
        reduce(x, sums, quiet, slice(1, 2))
        return (sums.item(), quiet.item()) == (2, 1)
    except Exception:  # Triton is not there, or lacks a C compiler or a driver: plain torch does the same
        return False
