"""The edit itself: one block's register neurons are read, and written anew.

It is a function from tensor to tensor wherever somebody could tell: where a gradient is wanted, a graph
traced, or a tensor held by anybody else. Else it writes the k columns into the tensor that it was given,
which saves a copy of [B, N, hidden] a block; on CUDA in one kernel (:mod:`ttr.registers.kernel`), if Triton
is there. Nothing in it waits for the device or depends on values, so a CUDA graph can hold it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from ttr.backbones.own_code import runs_library_code
from ttr.hooks import inside, seen_before
from ttr.registers.passage import Passage
from ttr.registers.tried import KERNEL_TYPES, kernel_works
from ttr.tokens import TokenLayout

RegisterValue = Literal["neuron", "maximum", "layer"]
Others = Literal["zero", "mean", "clip", "keep"]
Scope = Literal["all", "all-but-cls", "patches"]


def signed_maximum(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Return the value of largest magnitude along ``dim``, sign and dimensions kept (ties: negative)."""
    high, low = x.amax(dim, keepdim=True), x.amin(dim, keepdim=True)
    return torch.where(high > -low, high, low)


@dataclass(frozen=True, eq=False)
class MoveNeurons:
    """Edit of one block's neuron activations [B, N, hidden]; see :mod:`ttr.registers.wrap` for the formula.

    Attributes:
        indices: the block's register neurons, int64 [k].
        layout: counts of prefix and test-time tokens (the patches are all that follow).
        register_value: of largest magnitude, a neuron or over all listed ones of the layer; or a neuron's
            maximum as it is.
        others: what the remaining tokens get.
        scope: whether CLS, or CLS and trained registers, are not among the remaining tokens.
        scale: factor on the register's value, one number a register.
        passage: the block's; None edits whatever sequence comes.
        mlp: the MLP that makes the activations; None takes them for somebody else's, which are never changed.
    """

    indices: Tensor
    layout: TokenLayout
    register_value: RegisterValue
    others: Others
    scope: Scope
    scale: tuple[float, ...]
    passage: Passage | None = None
    mlp: nn.Module | None = None
    _constants: dict[Any, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Leave what lies on devices behind: a copy makes its own."""
        return {**vars(self), "_constants": {}}

    def __call__(self, x: Tensor) -> Tensor:
        """Return the activations with the listed neurons edited, [B, N, hidden].

        They are ``x`` itself where nobody else can hold it, and else a copy.

        Raises:
            ModelError: there are to be registers, and none stand in this sequence.
        """
        if self.passage is not None and self.layout.test_time:
            self.passage.require(x)
        if not _is_plain(x):
            indices = self.indices.to(x.device)
            return x.index_copy(2, indices, self.moved(x.index_select(2, indices)))
        indices = self._constant(self.indices, x.device)
        if _is_differentiated(x):
            return x.index_copy(2, indices, self.moved(x.index_select(2, indices)))
        own = x if self._is_nobodys(x) else x.clone()
        if self._fits_kernel(x) and kernel_works("the edit", x.device, _moves):
            self._by_kernel(own, indices)
            return own
        return own.index_copy_(2, indices, self.moved(own.index_select(2, indices)))

    def moved(self, active: Tensor) -> Tensor:
        """Return the edited activations of the listed neurons alone, [B, N, k] -> [B, N, k]."""
        prefix, registers, kept = self.layout.prefix, self.layout.test_time, self._kept
        patches = active[:, prefix + registers :]
        parts = [active[:, :kept], self._ordinary(active[:, kept:prefix], patches)]
        if registers:
            value = self._value(active)
            scales = self._scales(active)
            value = value if scales is None else scales[:, None] * value
            parts.append(value.expand(-1, registers, active.shape[2]))
        parts.append(self._ordinary(patches, patches))
        return torch.cat(parts, dim=1)

    @property
    def _kept(self) -> int:
        """How many tokens keep what they have, counted from the first."""
        return {"all": 0, "all-but-cls": self.layout.cls, "patches": self.layout.prefix}[self.scope]

    def _value(self, active: Tensor) -> Tensor:
        """Return what a register is given, [B, 1, k]; [B, 1, 1] where it is the layer's."""
        if self.register_value == "maximum":
            return active.amax(1, keepdim=True)
        return signed_maximum(active, 1 if self.register_value == "neuron" else (1, 2))

    def _ordinary(self, tokens: Tensor, patches: Tensor) -> Tensor:
        if self.others == "zero":
            return torch.zeros_like(tokens)
        if self.others == "keep":
            return tokens
        mean = patches.mean(dim=1, keepdim=True)
        if self.others == "mean":
            return mean.expand_as(tokens)
        return torch.where(tokens > mean + patches.std(dim=1, keepdim=True), mean, tokens)

    def _by_kernel(self, x: Tensor, indices: Tensor) -> None:
        from ttr.registers import kernel

        layout = self.layout
        with torch.cuda.device(x.device):
            kernel.move(
                x,
                indices,
                first=layout.prefix,
                registers=layout.test_time,
                kept=self._kept,
                signed=self.register_value == "neuron",
                scales=self._scales(x),
            )

    def _fits_kernel(self, x: Tensor) -> bool:
        published = self.register_value != "layer" and self.others == "zero"
        return x.is_cuda and published and x.ndim == 3 and x.dtype in KERNEL_TYPES

    def _is_nobodys(self, x: Tensor) -> bool:
        """Return whether the MLP made ``x`` for its down-projection alone, and no hook was shown it."""
        if self.mlp is None or (x.is_inference() and not torch.is_inference_mode_enabled()):
            return False
        parts = inside(self.mlp)
        return all(map(runs_library_code, (self.mlp, *parts))) and not seen_before(self, parts)

    def _scales(self, like: Tensor) -> Tensor | None:
        """Return the factors in the type and on the device of ``like``, [R]; None where all are 1."""
        if all(factor == 1 for factor in self.scale):
            return None
        if not _is_plain(like):
            return torch.tensor(self.scale, dtype=like.dtype, device=like.device)
        return self._constant(self.scale, like.device, like.dtype)

    def _constant(
        self, value: Tensor | tuple[float, ...], device: torch.device, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Return a constant of the edit on a device: brought there once, by whichever call comes first."""
        held = self._constants.get((device, dtype))
        if held is None:
            # What inference mode makes could not be used where gradients are wanted.
            with torch.inference_mode(False):
                held = torch.as_tensor(value, dtype=dtype, device=device)
            self._constants[device, dtype] = held
        return held


def _is_plain(x: Any) -> bool:
    """Return whether ``x`` is a tensor with values, that nobody traces, transforms or watches."""
    return (
        not torch.compiler.is_compiling()
        and type(x) is Tensor
        and not torch.jit.is_tracing()
        and not torch._C._are_functorch_transforms_active()
        and not is_in_torch_dispatch_mode()
    )


def _is_differentiated(x: Tensor) -> bool:
    return x.requires_grad or torch.autograd.forward_ad._current_level >= 0


def _moves(device: torch.device) -> bool:
    """Return whether the kernel moves one of two numbers, and leaves 0 of the other."""
    from ttr.registers import kernel

    x, neurons = torch.tensor([[[1.0], [-2.0]]], device=device), torch.zeros(1, device=device).long()
    kernel.move(x, neurons, first=0, registers=1, kept=0)
    return x.flatten().tolist() == [-2, 0]
