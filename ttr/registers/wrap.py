"""Test-time registers: move the register neurons' activity off the image and onto tokens of its own.

Outlier patches are made by a sparse set of MLP neurons. Jiang et al. (2025, arXiv 2506.08010, Algorithm 2)
append tokens that are zero before the first norm and, at every register neuron i of every listed block, set

    a_i(test-time register) = a_i(t*),   t* = argmax_t |a_i(t)|    (sign kept, neuron by neuron)
    a_i(any other token)    = 0,

so that the high norm, and the attention it draws, lands on the appended tokens. These are dropped before
the output: shapes and order stay the bare model's. Nothing is trained and no weight changes.

``TestTimeRegisters`` installs exactly three kinds of edits at every block: the registers go in where it is
entered, the listed neurons are moved, the registers come out where it is left (and out of what the model
collected on the way); :mod:`ttr.registers.passage` says how they travel. With no neurons it is the
blank-token control; with ``num_registers=0`` it zeroes the neurons and gives them no other place. Neither is
the bare model.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import partial
from numbers import Integral
from typing import Any, get_args

import torch
from torch import Tensor, nn

from ttr.backbones.base import Backbone
from ttr.backbones.compiled import forget_compiled_code, is_compiled
from ttr.backbones.extra_key import extra_key
from ttr.checks import MOST_REGISTERS
from ttr.errors import ModelError, NeuronsError, OptionError
from ttr.hooks import Edit, Site, attach, detach, edits_at, remove_edits
from ttr.registers.move import MoveNeurons, Others, RegisterValue, Scope
from ttr.registers.neurons import RegisterNeurons
from ttr.registers.passage import (
    CollectedWithoutRegisters,
    EnterBlock,
    LeaveBlock,
    Passage,
    RequireRegisters,
)
from ttr.registers.variants import ALGORITHM, OPTIONS, Variant, check_variant
from ttr.registers.wrapping import Step, Wrap

#: What a wrap puts into a model; nothing else is of these kinds.
EDITS = (EnterBlock, MoveNeurons, RequireRegisters, LeaveBlock, CollectedWithoutRegisters)


class TestTimeRegisters(Wrap):
    """Wrap a backbone with test-time registers, for a ``with`` block or from ``install()`` to ``remove()``.

    Args:
        backbone_or_model: a Backbone, or a model that ``ttr.adapt`` knows.
        neurons: the register neurons; an empty set makes the blank-token control.
        num_registers: R appended tokens, 0 to 1024; 0 zeroes the neurons without a substitute.
        variant: ``"algorithm"``, as published, or ``"released-code"``, as the authors' code does it
            (:mod:`ttr.registers.variants`): what ``register_value`` and ``scope`` are where they are None.
        register_value: ``"neuron"``, the published rule: each neuron's own signed maximum over all tokens;
            ``"maximum"``, the released code: its maximum, whatever lies below zero; ``"layer"``, the
            predecessor's code: one signed maximum over all listed neurons of the block.
        others: what the other tokens get at the register neurons: ``"zero"`` (published), ``"mean"`` (the
            neuron's mean over the patches), ``"clip"`` (activations more than one sample standard deviation
            above the patch mean become that mean), ``"keep"``.
        scope: ``"all"`` tokens but the registers (published); ``"all-but-cls"``: CLS keeps its activations
            (the released code); or ``"patches"``: CLS and trained registers do (the predecessor's code).
        scale: factor on the registers' values; one number, or one a register.

    The model's outputs keep the bare model's shapes, its parameters and state dict are untouched, and
    every item of a batch is edited. ``register_value="layer", scope="patches"`` gives the predecessor's
    features.

    A wrap changes the model for every thread. Once it stands, any number of threads may call the model in
    ``eval()`` mode; but a call that runs while the wrap goes in or out is wrapped in part, and nothing
    notices. So install and remove while no call runs, or leave the model alone and serve ``copy()``, a
    wrapped model of the same weights beside the bare one. Installs and removals of several threads take
    turns; of two wraps for one model the second is refused. What looks into a model (``Backbone.tokens``,
    ``ttr.detect``, ``ttr.compare``) hooks into it for a moment and wants a model, or a copy, to itself.

    An installed wrap that is dropped stays in the model, as a hook does, and a ResourceWarning says so; with
    it goes the only way to remove it, but for ``ttr.unwrap(model)``. What is copied or pickled of a wrapped
    model is wrapped too, and the same makes it bare.

    Raises:
        OptionError: an option has no such value.
        NeuronsError: the neurons do not belong to this backbone.
        ModelError: the model is of no known family, compiled already, or wrapped already (on install).

    Example:
        >>> with TestTimeRegisters(backbone, neurons):
        ...     features = backbone.embed(images)
    """

    __test__ = False

    def __init__(
        self,
        backbone_or_model: Backbone | nn.Module,
        neurons: RegisterNeurons,
        *,
        num_registers: int = 1,
        variant: Variant = ALGORITHM,
        register_value: RegisterValue | None = None,
        others: Others = "zero",
        scope: Scope | None = None,
        scale: float | Sequence[float] | Tensor = 1.0,
    ) -> None:
        super().__init__(backbone_or_model, neurons)
        if not isinstance(neurons, RegisterNeurons):
            raise NeuronsError(
                f"got {type(neurons).__name__} as neurons; needed RegisterNeurons: make them with "
                "ttr.detect, RegisterNeurons.load(path) or RegisterNeurons.from_pairs(pairs)"
            )
        self.num_registers = _count(num_registers)
        given = {"register_value": register_value, "others": others, "scope": scope}
        told = {name: value for name, value in given.items() if value is not None}
        self.variant = check_variant(variant)
        chosen = {**OPTIONS[self.variant], **told}
        for name, allowed in (("register_value", RegisterValue), ("others", Others), ("scope", Scope)):
            _check(name, chosen.get(name), allowed)
        neurons.check(self.backbone)
        if self.num_registers and self.backbone.no_place:
            raise ModelError(
                f"{self.backbone.name} {self.backbone.no_place}, so no register can be inserted; "
                "num_registers=0 silences the neurons without one"
            )
        self._settings: dict[str, Any] = {**chosen, "scale": _scales(scale, self.num_registers)}

    def _on_the_device(self, indices: Sequence[int]) -> Tensor:
        """Return the indices where the model takes images, or with values at least, and fit for training."""
        device = self.backbone.device
        with torch.inference_mode(False):
            return torch.tensor(indices, device="cpu" if device.type == "meta" else device)

    def edits(self) -> list[tuple[Site, Edit]]:
        """Return the (site, function) pairs that make the wrap, in the order of the forward pass."""
        layout = self.backbone.layout.with_test_time(self.num_registers)
        sites, listed, whose = self.backbone.sites, self.neurons.by_layer(), secrets.token_hex(8)
        made: list[tuple[Site, Edit]] = []
        for layer, (block, neurons) in enumerate(zip(sites.blocks, sites.neurons, strict=True)):
            if layer not in listed and not self.num_registers:
                continue
            place = _place(neurons.module, block.module)
            passage = Passage(self.backbone.name, layer, place, layout, whose, layer in listed)
            made.append((Site(block.module, "entering"), EnterBlock(passage, sites.pre_norm)))
            if layer in listed:
                indices, mlp = self._on_the_device(listed[layer]), sites.mlps[layer].module
                move = MoveNeurons(indices, layout, **self._settings, passage=passage, mlp=mlp)
                made.append((neurons, move))
            else:
                made.append((neurons, RequireRegisters(passage)))
            if self.num_registers:
                made.append((Site(block.module, "leaving"), LeaveBlock(passage)))
        if self.num_registers and sites.collected is not None:
            made.append((sites.collected, CollectedWithoutRegisters(layout)))
        return made

    def _put_in(self, undo: list[Step]) -> None:
        self._refuse_unfit()
        forget_compiled_code()
        for module in self.backbone.sites.rotary if self.num_registers else ():
            undo.append(partial(setattr, module, "num_prefix_tokens", module.num_prefix_tokens))
            module.num_prefix_tokens += self.num_registers
        # Quantisation in place moves hooks to modules that no handle knows.
        undo.append(partial(remove_edits, self.backbone.model, EDITS))
        undo.append(partial(detach, attach(self.edits())))

    def _refuse_unfit(self) -> None:
        sites = self.backbone.sites
        if any(isinstance(e, EDITS) for site in sites.neurons for e in edits_at(site)):
            raise ModelError(
                f"{self.backbone.name} is wrapped already (with test-time registers or an attention bias); "
                "remove() that wrap (or leave its with block) first; what was copied of a wrapped model is "
                "wrapped too: ttr.unwrap(model) makes it bare"
            )
        if any(extra_key(site.module) is not None for site in sites.attention):
            raise ModelError(f"{self.backbone.name} carries an attention bias already; remove() it first")
        if is_compiled(self.backbone.model) or is_compiled(sites.tower):
            raise ModelError(
                f"{self.backbone.name} is compiled already, and the compiled form would ignore the wrap; "
                "install the wrap first, then compile (or delete what torch.compile returned)"
            )


def _place(module: nn.Module, block: nn.Module) -> str:
    """Return where a block holds one of its modules, such as ``mlp.fc2``."""
    return next(name for name, held in block.named_modules() if held is module)


def _check(name: str, value: Any, allowed: Any) -> None:
    if value not in get_args(allowed):
        raise OptionError(f"{name}={value!r}; needed one of {', '.join(map(repr, get_args(allowed)))}")


def _count(registers: Any) -> int:
    whole = isinstance(registers, Integral) and not isinstance(registers, bool)
    if not whole or not 0 <= registers <= MOST_REGISTERS:
        raise OptionError(f"num_registers={registers!r}; needed an integer from 0 to {MOST_REGISTERS}")
    return int(registers)


def _scales(scale: Any, registers: int) -> tuple[float, ...]:
    try:
        if isinstance(scale, bool):
            raise TypeError
        given = torch.as_tensor(scale, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise OptionError(f"scale={scale!r}; needed one number, or one a register") from error
    values = given.expand(registers) if given.ndim == 0 else given
    if values.shape != (registers,) or not values.isfinite().all():
        raise OptionError(f"scale={scale!r}; needed one finite number, or {registers} of them")
    return tuple(values.tolist())
