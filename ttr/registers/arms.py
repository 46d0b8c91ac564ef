"""The arms of an experiment, as data: what is done to the model while it looks at an image.

    plain           the bare model
    token           R blank tokens appended, no neuron edited: what earlier work called its baseline
    neurons         the register neurons zeroed, no token to take their place
    ttr             both: the register neurons moved onto R test-time registers
    random          as ttr, but with as many random neurons of the same blocks (several draws)
    random-neurons  as neurons, but with as many random neurons of the same blocks (several draws)
    attention-bias  the neurons zeroed, and the register's mean key and value in every head: no token

The difference ttr - plain is what a user gets. ttr - token is the neurons' share of it, token - plain what a
blank token does alone; an experiment that only compares ttr with token mixes nothing, but leaves out the
bare model. The random arms say whether it matters which neurons were chosen.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ttr import checks
from ttr.backbones.base import Backbone
from ttr.digests import sha256
from ttr.errors import OptionError
from ttr.registers.arm_names import NAMES
from ttr.registers.attention_bias import AttentionBias, BiasCalibration
from ttr.registers.neurons import RegisterNeurons
from ttr.registers.variants import ALGORITHM, Variant, check_variant
from ttr.registers.wrap import TestTimeRegisters


@dataclass(frozen=True)
class Arm:
    """One treatment of the model.

    Attributes:
        name: as in the results; a random arm's draw stands behind a colon, ``random:0``.
        neurons: the neurons that are edited; an empty set edits none.
        num_registers: R >= 0 appended tokens.
        bias: the calibrated attention bias, of that arm alone.
        variant: how the neurons are moved, see :mod:`ttr.registers.variants`.
    """

    name: str
    neurons: RegisterNeurons = field(repr=False)
    num_registers: int
    bias: BiasCalibration | None = field(default=None, repr=False)
    variant: Variant = ALGORITHM

    @property
    def kind(self) -> str:
        """The arm's name without its draw."""
        return self.name.partition(":")[0]

    def applied(self, backbone: Backbone) -> AbstractContextManager:
        """Return the context in which ``backbone`` is treated so."""
        if self.bias is not None:
            return AttentionBias(backbone, self.neurons, self.bias)
        if not len(self.neurons) and not self.num_registers:
            return nullcontext()
        options: dict[str, Any] = {"num_registers": self.num_registers, "variant": self.variant}
        return TestTimeRegisters(backbone, self.neurons, **options)

    @property
    def fingerprint(self) -> str:
        """The treatment as 16 hex digits, whatever its name: equal treatments are equal."""
        treatment: dict[str, Any] = {"pairs": sorted(self.neurons.pairs), "num_registers": self.num_registers}
        if len(self.neurons) and self.variant != ALGORITHM:
            treatment["variant"] = self.variant
        if self.bias is not None:
            treatment["bias"] = [part.flatten().tolist() for part in (self.bias.keys, self.bias.values)]
        return sha256([json.dumps(treatment)], 16)

    def to_json(self) -> dict[str, Any]:
        """Return what is recorded of it in a result."""
        calibrated = None if self.bias is None else self.bias.provenance.images
        return {
            "name": self.name,
            "num_registers": self.num_registers,
            "variant": self.variant,
            "neurons": self.neurons.pairs,
            "bias_calibrated_on": calibrated,
        }


#: The bare model.
PLAIN = Arm("plain", RegisterNeurons.from_pairs([]), 0)


def arms(
    names: Sequence[str],
    backbone: Backbone,
    neurons: RegisterNeurons,
    *,
    num_registers: int = 1,
    draws: int = 3,
    seed: int = 42,
    bias: BiasCalibration | None = None,
    variant: Variant = ALGORITHM,
) -> list[Arm]:
    """Return the named arms for a backbone and its register neurons.

    Args:
        names: of :data:`NAMES`, in the wanted order.
        backbone: whose neurons they are.
        neurons: its register neurons.
        num_registers: R >= 1 for the arms with tokens.
        draws: how many times the random arms are drawn.
        seed: of the draws.
        bias: for the arm ``attention-bias``, from :func:`ttr.registers.attention_bias.calibrate_bias`.
        variant: how neurons are moved; the attention bias moves none, and knows none.

    Raises:
        OptionError: an unknown arm, one named twice, or a value outside its range.
        NeuronsError: the neurons belong to another backbone.
    """
    check_names(names)
    check_variant(variant)
    neurons.check(backbone)
    checks.integer("num_registers", num_registers, 1)  # the arm 'neurons' is the one without a register
    checks.integer("draws", draws, 1)
    nothing = RegisterNeurons.from_pairs([])
    made: list[Arm] = []
    for name in names:
        if name == "plain":
            made.append(Arm(name, nothing, 0))
        elif name == "token":
            made.append(Arm(name, nothing, num_registers))
        elif name == "neurons":
            made.append(Arm(name, neurons, 0, variant=variant))
        elif name == "ttr":
            made.append(Arm(name, neurons, num_registers, variant=variant))
        elif name == "attention-bias":
            if bias is None:
                raise OptionError("the arm 'attention-bias' needs bias=; make it with ttr.calibrate_bias")
            made.append(Arm(name, neurons, 0, bias))
        else:
            registers = num_registers if name == "random" else 0
            for draw in range(draws):
                drawn = random_neurons(neurons, backbone, seed=seed + draw)
                made.append(Arm(f"{name}:{draw}", drawn, registers, variant=variant))
    return made


def check_names(names: Sequence[str]) -> None:
    """Raise OptionError unless these are names of arms, at least one, each once."""
    checks.names("arms", names, NAMES)


def random_neurons(neurons: RegisterNeurons, backbone: Backbone, *, seed: int) -> RegisterNeurons:
    """Draw as many neurons of the same blocks as ``neurons`` keeps, none of them its own.

    Raises:
        OptionError: a block has too few other neurons.
    """
    random = np.random.default_rng(seed)
    pairs = []
    for layer, kept in neurons.by_layer().items():
        others = np.setdiff1d(np.arange(backbone.num_neurons), kept)
        if len(others) < len(kept):
            raise OptionError(
                f"block {layer} has {len(others)} other neurons; {len(kept)} are needed for a random arm"
            )
        pairs += [(layer, int(neuron)) for neuron in random.choice(others, len(kept), replace=False)]
    return RegisterNeurons.from_pairs(pairs)
