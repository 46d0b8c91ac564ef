"""The kernel against plain PyTorch, in Triton's interpreter, in a process of its own (test_activity.py).

Triton decides at its import whether it interprets, so this is a process that imported none before.
"""

from __future__ import annotations

import torch

from ttr.registers.activity import sums_and_quiet
from ttr.registers.activity_kernel import reduce


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    for kind in (torch.float32, torch.float16, torch.bfloat16):
        for items, length, width, patches in (
            (3, 17, 96, slice(1, 17)),
            (1, 16, 128, slice(0, 16)),
            (2, 37, 130, slice(5, 37)),
            (2, 1, 3, slice(0, 1)),
        ):
            whole = torch.randn(items, length, 2 * width, generator=generator).to(kind)
            whole[:, :, 0] = 0.5  # not below it
            for x in (whole[..., :width].contiguous(), whole[..., :width], whole[..., ::2]):
                found = torch.full((2, items, width), torch.nan)
                reduce(x, found, patches)
                torch.testing.assert_close(found, sums_and_quiet(x, patches), rtol=1e-6, atol=1e-6)
    print("equal")


if __name__ == "__main__":
    main()
