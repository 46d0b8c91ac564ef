"""Weights that accelerate keeps elsewhere: on the CPU or on the disk, and brings only while a module runs.

``cpu_offload``, ``disk_offload`` and ``device_map`` leave parameters on the meta device and a hook,
``module._hf_hook``, that fetches them. Who reads a weight outside of the forward asks :func:`held`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ttr.errors import ModelError


def held(module: Any, name: str) -> Any:
    """Return an attribute of a module, a parameter or None, as it is while the module runs.

    A quantised weight is returned as the numbers it stands for: its own kind cannot be cut or transposed.
    """
    tensor = getattr(module, name)
    if isinstance(tensor, Tensor) and type(tensor).dequantize is not Tensor.dequantize:
        return tensor.dequantize()
    if not isinstance(tensor, Tensor) or not tensor.is_meta or not is_offloaded(module):
        return tensor
    module._hf_hook.pre_forward(module)
    try:
        return getattr(module, name)
    finally:
        module._hf_hook.post_forward(module, None)


def is_offloaded(module: Any) -> bool:
    """Return whether the module's own weights come when it runs."""
    hook = getattr(module, "_hf_hook", None)
    return any(getattr(each, "offload", False) for each in getattr(hook, "hooks", (hook,)))


def execution_device(module: Any) -> torch.device:
    """Return where the module's own weights are when it runs."""
    hook = getattr(module, "_hf_hook", None)
    places = [getattr(each, "execution_device", None) for each in getattr(hook, "hooks", (hook,))]
    if is_offloaded(module):
        return torch.empty(0, device=next(place for place in places if place is not None)).device
    return next(module.parameters()).device


def offloaded(model: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Return the parameters and buffers that lie elsewhere: {name: (module, its name there)}."""
    return {
        f"{path}.{name}".removeprefix("."): (module, name)
        for path, module in model.named_modules()
        if is_offloaded(module)
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if tensor is not None and tensor.is_meta
    }


def check_offload(model: nn.Module, source: str) -> None:
    """Raise ModelError where an offloaded module reads its parts' weights, which come when a part runs.

    The model would fail in torch, or, on some devices, compute with whatever lies in memory.
    """
    for path, module in model.named_modules():
        reads = isinstance(module, nn.MultiheadAttention) or getattr(module, "q_bias", None) is not None
        if reads and is_offloaded(module):
            raise ModelError(
                f"{path} of {source} is a {type(module).__name__}, which reads the weights of its parts, and "
                "accelerate's offload brings those only when a part runs; load the model whole, without "
                "cpu_offload or device_map"
            )


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict with the values that lie elsewhere."""
    state = model.state_dict()
    return state | {key: held(*place) for key, place in offloaded(model).items() if key in state}
