"""The physical limit: a model's floating-point operations at the rate of the machine's own matrix products.

    limit = FLOPs(model, batch) / max over tries of 2 n^3 / seconds(A @ B),   A, B of n x n

FLOPs are counted by :mod:`torch.utils.flop_counter`, with unfused attention so that none hides in a kernel.
The rate is the best that was seen, or a busy machine would make a model look faster than possible.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks.settings import Settings, torch_dtype
from ttr.backbones import Backbone

TRIES = 12


def gemm_rate(settings: Settings, dtype: str) -> float:
    """Return the highest rate of a large matrix product that was seen, in operations a second."""
    sides = (256,) if settings.quick else (4096, 8192) if settings.on_gpu else (1024, 2048)
    return max(rate for side in sides for rate in _rates(settings, dtype, side))


def _rates(settings: Settings, dtype: str, side: int) -> Iterator[float]:
    generator = torch.Generator().manual_seed(settings.seed)
    shape = (side, side)
    a, b = (torch.randn(shape, generator=generator).to(settings.device, torch_dtype(dtype)) for _ in range(2))
    settings.pass_clock(lambda: a @ b, 3)
    for _ in range(TRIES):
        yield 2 * side**3 / settings.pass_clock(lambda: a @ b, 3)


def flops(backbone: Backbone, images: Tensor) -> int:
    """Return the floating-point operations of a bare pass of images [B, C, H, W], a multiply-add as two."""
    image = torch.zeros_like(images[:1])
    # With gradients no library takes a fused path of its own past the counter.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        backbone.features(image)
    return len(images) * int(counter.get_total_flops())
