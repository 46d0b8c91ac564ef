"""Whether a Triton kernel can be built and counts right on a device: tried once a kernel and device.

Plain PyTorch does what a kernel does, so without Triton there is nothing to say; where Triton is there and
cannot build, it is said once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec

import torch

#: What the kernels compute exactly as plain torch does.
KERNEL_TYPES = {torch.float32, torch.float16, torch.bfloat16}
_KNOWN: dict[tuple[str, torch.device], bool] = {}


def kernel_works(what: str, device: torch.device, trial: Callable[[torch.device], bool]) -> bool:
    """Return whether a kernel runs on a CUDA device.

    Args:
        what: the kernel does, for the warning.
        device: where.
        trial: imports and runs the kernel on a few numbers, and returns whether they came out right.
    """
    if (what, device) not in _KNOWN:
        if torch.cuda.is_current_stream_capturing():  # nothing can be built and looked at now
            return False
        _KNOWN[what, device] = _try(what, device, trial)
    return _KNOWN[what, device]


def _try(what: str, device: torch.device, trial: Callable[[torch.device], bool]) -> bool:
    if find_spec("triton") is None:
        return False
    try:
        with torch.cuda.device(device):
            return trial(device)
    except Exception as error:  # it is built by a C compiler and a driver, which fail in ways of their own
        reason = " ".join(str(error).split())[:200]
        warnings.warn(
            f"{what} runs in plain PyTorch on {device}, a little slower, since Triton could not build its "
            f"kernel ({type(error).__name__}: {reason}); Triton needs a C compiler",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
