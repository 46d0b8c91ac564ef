"""What is kept of neuron activations [B, N, hidden] as they pass: two numbers a neuron and image.

The sum of |activation| over the patches, and how many tokens are quiet (below 0.5). The activations are the
largest tensors of a pass, and reading them is what this costs. On CUDA one Triton kernel reads them once
(:mod:`ttr.registers.activity_kernel`). On the CPU they are taken in tiles that stay in the cache: they come
from memory once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttr.registers.tried import KERNEL_TYPES, kernel_works
from ttr.tokens import TokenLayout

SPARSE_BELOW = 0.5
SPARSE_SHARE = 0.5
#: Activations of a tile, for each thread of the CPU: half a megabyte, twice, fits into its cache.
TILE = 2**17


class Activity:
    """Observer of a pass that keeps two numbers a neuron and image, a block after the other."""

    def __init__(self, layout: TokenLayout, sparsity: bool) -> None:
        self.layout = layout
        self.sparsity = sparsity
        self._kept: list[Tensor] = []

    def __call__(self, layer: int, activations: Tensor) -> None:
        """Take the activations of one block, [B, N, hidden], as they pass."""
        self._kept.append(sums_and_quiet(activations, self.layout.where("patches"), self.sparsity))

    def of(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return the numbers of some images, int64 [K], at all blocks.

        Returns:
            The sums of |activation| over the patches, float32 at least; and the sparsity filter, bool:
            whether half of the tokens are quiet, true for all without it. Both [L, K, hidden].
        """
        sums, quiet = torch.stack(self._kept).index_select(2, items).unbind(1)
        return sums, quiet >= SPARSE_SHARE * self.layout.length


def sums_and_quiet(x: Tensor, patches: slice, sparsity: bool = True) -> Tensor:
    """Return the sum of |x| over the patches, and the number of tokens below 0.5 (all, without ``sparsity``).

    Args:
        x: activations [B, N, hidden].
        patches: where the patches are along the token axis.
        sparsity: whether to count.

    Returns:
        One behind the other, [2, B, hidden], in float32 at least.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    found = x.new_empty((2, x.shape[0], x.shape[2]), dtype=wide)
    if x.is_cuda and x.dtype in KERNEL_TYPES and kernel_works("detection", x.device, _counts):
        from ttr.registers.activity_kernel import reduce

        reduce(x, found, patches)
    else:
        _reduce_in_tiles(x, found, patches, sparsity)
    if not sparsity:
        found[1] = x.shape[1]
    return found


def _reduce_in_tiles(x: Tensor, found: Tensor, patches: slice, sparsity: bool) -> None:
    items, columns = _tile(x)
    held = x.new_empty((min(items, x.shape[0]), x.shape[1], columns))
    for first in range(0, x.shape[0], items):
        for left in range(0, x.shape[2], columns):
            part = (slice(first, first + items), slice(left, left + columns))
            seen = x[part[0], :, part[1]]
            tile = torch.abs(seen, out=held[: seen.shape[0], :, : seen.shape[2]])
            torch.sum(tile[:, patches], 1, dtype=found.dtype, out=found[0][part])
            if sparsity:
                torch.lt(seen, SPARSE_BELOW, out=tile)
                torch.sum(tile, 1, dtype=found.dtype, out=found[1][part])


def _tile(x: Tensor) -> tuple[int, int]:
    """Return of how many images and neurons a tile is; where there is no cache to stay in, of all."""
    if x.device.type != "cpu":
        return x.shape[0], x.shape[2]
    held = TILE * torch.get_num_threads() // x.shape[1]  # columns of tokens
    return max(held // x.shape[2], 1), min(max(held, 256), x.shape[2])


def _counts(device: torch.device) -> bool:
    """Return whether the kernel sums one of two numbers and counts what is below the bound."""
    from ttr.registers.activity_kernel import reduce

    x = torch.tensor([[[1.0], [-2.0]]], device=device)
    found = x.new_empty(2, 1, 1)
    reduce(x, found, slice(1, 2))
    return found.flatten().tolist() == [2, 1]
