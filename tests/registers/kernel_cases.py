"""The kernel against the edit in plain PyTorch, in Triton's interpreter: run by test_kernel.py, on its own.

Triton decides at its import whether it interprets, so this is a process that imported none before. The
interpreter cuts bfloat16 off where a device rounds, so factors are powers of two there.
"""

from __future__ import annotations

import itertools
import math

import torch

from ttr.registers import kernel
from ttr.registers.move import MoveNeurons
from ttr.tokens import TokenLayout

CASES = [
    # prefix, registers, patches, scope, factors
    (1, 1, 7, "all", (1.0,)),
    (5, 4, 11, "all", (1.0, 0.5, -2.0, 0.0)),
    (1, 0, 8, "all", ()),
    (0, 2, 16, "all", (1.0, 1.0)),
    (5, 2, 9, "patches", (1.0, 2.0)),
    (1, 0, 8, "patches", ()),
    (1, 40, 3, "all", (1.0,) * 40),
]
NEURONS = torch.tensor([4, 1, 6])


def expected_and_found(
    x: torch.Tensor,
    prefix: int,
    registers: int,
    scope: str,
    factors: tuple[float, ...],
    value: str = "neuron",
) -> tuple[torch.Tensor, torch.Tensor]:
    layout = TokenLayout(min(prefix, 1), max(prefix - 1, 0), registers, (1, x.shape[1] - prefix - registers))
    edit = MoveNeurons(NEURONS, layout, value, "zero", scope, factors)
    expected = edit(x)
    scales = edit._scales(x)
    kept = {"all": 0, "all-but-cls": min(prefix, 1), "patches": prefix}[scope]
    how = {"kept": kept, "signed": value == "neuron"}
    kernel.move(x, NEURONS, first=prefix, registers=registers, scales=scales, **how)
    return expected, x


def values(kind: torch.dtype, batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, length, 8, generator=torch.Generator().manual_seed(seed)).to(kind)


def main() -> None:
    for kind in (torch.float32, torch.float16, torch.bfloat16):
        # What lies where is the same in every kind: the halves need the cases with factors alone.
        for prefix, registers, patches, scope, factors in CASES if kind is torch.float32 else CASES[1:2]:
            x = values(kind, 2, prefix + registers + patches)
            expected, found = expected_and_found(x, prefix, registers, scope, factors)
            assert torch.equal(expected, found), (kind, prefix, registers, patches, scope)

    for kind in (torch.float32, torch.float16):
        expected, found = expected_and_found(values(kind, 2, 9), 1, 2, "all", (1.7, -0.3))
        assert torch.equal(expected, found), f"{kind}: a product is rounded once"

    for prefix, registers in ((5, 2), (1, 0)):
        released = (prefix, registers, "all-but-cls", (1.0,) * registers, "maximum")
        for raised in (0.0, -9.0):  # where all lies below zero, too
            expected, found = expected_and_found(values(torch.float32, 2, 12) + raised, *released)
            assert torch.equal(expected, found), released

    kernel.MOST_AT_ONCE = 8
    for length in (8, 9, 24):
        x = values(torch.float32, 2, length)
        x[0, -1, 4], x[1, 0, 4] = 90.0, -91.0  # the largest stand in the first and in the last turn
        expected, found = expected_and_found(x, 1, 2, "all", (1.0, 0.5))
        assert torch.equal(expected, found), f"{length} tokens in turns of 8"
    kernel.MOST_AT_ONCE = 1024

    whole = values(torch.float32, 4, 12).repeat(1, 1, 2)
    whole = torch.cat([whole, whole], dim=1)
    untouched = whole.clone()
    part = whole[::2, 3:15, ::2]
    expected, found = expected_and_found(part, 1, 1, "all", (1.0,))
    assert torch.equal(expected, found), "strides"
    beside = torch.ones_like(whole, dtype=torch.bool)
    beside[::2, 3:15, ::2] = False
    assert torch.equal(whole[beside], untouched[beside]), "nothing beside the part is written"

    numbers = (math.nan, math.inf, -math.inf, 0.0, -3.0, 3.0)
    kinds = (torch.float32, torch.float16, torch.bfloat16)
    pairs = torch.tensor(list(itertools.product(numbers, repeat=2)))
    for kind in kinds:
        for background, how in ((0.0, ("all", (1.0,))), (-7.0, ("all-but-cls", (1.0,), "maximum"))):
            x = torch.zeros(len(pairs), 6, 8, dtype=kind)
            x[:, :, 4] = background
            x[:, [1, 5], 4] = pairs.to(kind)
            expected, found = expected_and_found(x, 1, 1, *how)
            assert torch.equal(expected.isnan(), found.isnan()), (kind, how)
            assert torch.equal(expected.nan_to_num(), found.nan_to_num()), (kind, how)
    print("equal")


if __name__ == "__main__":
    main()
