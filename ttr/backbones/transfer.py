"""From host to device and back, without waiting for each other.

A copy from pageable memory, or ``.cpu()``, waits for all that the device has still to do, and the device then
waits for the host. On CUDA both ways are asynchronous here; elsewhere they are plain copies.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def wide(device: torch.device) -> torch.dtype:
    """Return the widest floating-point type of a device: float64, but on Apple's, which has none."""
    return torch.float32 if device.type == "mps" else torch.float64


def send(x: Tensor, device: torch.device) -> Tensor:
    """Return ``x`` on a device, in its own type where the device has it; the host does not wait."""
    if x.dtype == torch.float64:
        x = x.to(wide(device))
    pinned = device.type == "cuda" and x.device.type == "cpu"
    return (x.pin_memory() if pinned else x).to(device, non_blocking=pinned)


def ask(x: Tensor) -> Callable[[], np.ndarray]:
    """Begin to fetch ``x``, and return a function that waits until it is here and gives its values."""
    if x.device.type != "cuda":
        return lambda: x.detach().cpu().numpy()
    here = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
    here.copy_(x.detach(), non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record(torch.cuda.current_stream(x.device))

    def wait() -> np.ndarray:
        arrived.synchronize()
        return here.numpy()

    return wait
