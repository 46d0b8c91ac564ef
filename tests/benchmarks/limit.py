"""The physical limit: a model's floating-point operations at the rate of the machine's own matrix products.

    limit = FLOPs(model, batch) / (2 n^3 / seconds(A @ B)),   A, B of n x n

FLOPs are counted by :mod:`torch.utils.flop_counter`, with unfused attention so that none hides in a kernel.
"""

from __future__ import annotations

import statistics
from functools import lru_cache

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks.settings import Settings, torch_dtype
from ttr.backbones import Backbone


def gemm_rate(settings: Settings, dtype: str) -> float:
    """Return the measured floating-point operations a second of one large matrix product."""
    side = 256 if settings.quick else 8192 if settings.on_gpu else 2048
    return _gemm_rate(settings.device, dtype, side, settings.seed)


@lru_cache
def _gemm_rate(device: str, dtype: str, side: int, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(side, side, generator=generator).to(device, torch_dtype(dtype)) for _ in range(2))
    clock = Settings(device=device).pass_clock
    clock(lambda: a @ b, 3)
    return 2 * side**3 / statistics.median(clock(lambda: a @ b, 3) for _ in range(5))


def flops_an_image(backbone: Backbone, size: tuple[int, int]) -> int:
    """Return the floating-point operations of a bare pass of one image, a multiply-add counted as two."""
    image = torch.zeros(1, backbone.channels, *size, device=backbone.device, dtype=backbone.dtype)
    # With gradients no library takes a fused path of its own past the counter.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        backbone.features(image)
    return int(counter.get_total_flops())


def limit_ms(settings: Settings, backbone: Backbone, dtype: str, images: torch.Tensor) -> float:
    """Return the milliseconds that a pass of ``images`` [B, C, H, W] takes at least."""
    size = (images.shape[-2], images.shape[-1])
    return 1000 * len(images) * flops_an_image(backbone, size) / gemm_rate(settings, dtype)
