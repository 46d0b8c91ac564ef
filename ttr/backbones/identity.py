"""Which weights a model holds: one digest of its state dict, whatever they are kept as.

Quantised tensors, tensor subclasses (torchao's), shards, packed parameters and extra state are read for what
they are made of; what accelerate keeps elsewhere is read where it lies, so that a model has one digest,
offloaded or not. A value of no kind that we can read gives a digest that equals no other: features are then
neither found again nor taken for another model's.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from ttr.backbones.offload import whole_state
from ttr.digests import sha256
from ttr.errors import ModelError

State = tuple[tuple[int, int], ...]
_PLAIN = (bool, int, float, complex, str, bytes, type(None), Enum, torch.dtype, torch.device, torch.qscheme)


class _Unreadable(Exception):  # noqa: N818
    """A value of which we know no bytes."""


def hash_of_weights(model: nn.Module, name: str) -> str:
    """Return 16 hex digits of the SHA-256 of a model's state dict, or ``unhashed-`` and eight random ones.

    Raises:
        ModelError: weights lie on the meta device.
    """
    try:
        return sha256(_parts(_state_dict(model, name)), 16)
    except _Unreadable:
        return f"unhashed-{secrets.token_hex(4)}"


def state_of(model: nn.Module) -> State:
    """Return where each tensor of a model lies, and how often it was changed."""
    tensors = (*model.parameters(), *model.buffers())
    return tuple((_address(x), 0 if x.is_inference() else x._version) for x in tensors)


def _address(x: Tensor) -> int:
    """Return where a tensor's values lie; of one that is made of others, where the tensor itself does."""
    return x.data_ptr() if type(x) in (Tensor, nn.Parameter, nn.Buffer) else id(x)


def _state_dict(model: nn.Module, name: str) -> Mapping[str, Any]:
    """Return a model's state dict, with the values that accelerate keeps elsewhere."""
    state = whole_state(model)
    if any(isinstance(x, Tensor) and x.is_meta for x in state.values()):
        raise ModelError(f"{name} lies on the meta device and has no values; load its weights first")
    return state


def _parts(state: Mapping[str, Any]) -> Iterator[str | memoryview]:
    for key, value in sorted(state.items()):
        yield f"{key}|"
        yield from _of(value)


def _of(value: Any) -> Iterator[str | memoryview]:
    """Yield what a value of a state dict is made of."""
    if isinstance(value, Tensor):
        yield from _of_tensor(value.detach())
    elif isinstance(value, Mapping):
        yield f"{len(value)}{{"
        yield from _parts({str(key): each for key, each in value.items()})
    elif isinstance(value, tuple | list):
        yield f"{len(value)}["
        for each in value:
            yield from _of(each)
    elif isinstance(value, _PLAIN):
        yield f"{value!r},"
    else:
        raise _Unreadable(type(value).__name__)


def _of_tensor(x: Tensor) -> Iterator[str | memoryview]:
    if hasattr(x, "full_tensor"):  # a shard knows the whole
        x = x.full_tensor()
    if hasattr(x, "__tensor_flatten__"):
        names, context = x.__tensor_flatten__()
        yield f"{type(x).__name__}|{context!r}|"
        yield from _parts({name: getattr(x, name) for name in names})
        return
    if x.is_quantized:
        yield from _of([x.qscheme(), x.int_repr(), *_scale(x)])
        return
    if x.is_meta:
        raise _Unreadable("meta")
    x = (x if x.layout == torch.strided else x.to_dense()).cpu().contiguous()
    yield f"{tuple(x.shape)}|{x.dtype}|"
    yield x.reshape(-1).view(torch.uint8).numpy().data


def _scale(x: Tensor) -> tuple[Any, ...]:
    """Return what the integers of a quantised tensor stand for."""
    if x.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return x.q_scale(), x.q_zero_point()
    return x.q_per_channel_scales(), x.q_per_channel_zero_points(), x.q_per_channel_axis()
