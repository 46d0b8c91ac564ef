"""Artifacts in a pretrained model that stays itself otherwise: its own maps are the truth.

A few of the least-used MLP neurons of one block give way to register neurons. All of them read one *trigger*,
a direction w of the MLP's input on which a flat patch in a corner of the image stands out, and write one
*direction* u of the residual stream, to which CLS pays attention in the late blocks, and which otherwise
changes nothing. With gains g that differ from neuron to neuron,

    up[i] = g_i w / s,   bias[i] = g_i (c - theta) / s,   down[:, i] = M u / (gamma k g_i)

so that all k together add  M u relu((w.x + c - theta) / s)  to a token: nothing where the trigger is below
theta, M times the excess in units of s above it. What the neurons that gave way said on average goes into the
bias of the down-projection. No other weight is touched, so what the unplanted model shows is known, and one
test-time register must bring it back.

Where trigger and direction come from: :mod:`ttr.studies.plant`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ttr.backbones.base import Backbone, Weights
from ttr.backbones.phantoms.weights import BlockWeights, stream_weights
from ttr.digests import sha256
from ttr.errors import ModelError
from ttr.files import TensorsError, load_tensors, save_tensors

KIND, SCHEMA = "artifacts", "ttr.artifacts/1"
WARNING = (
    "This backbone is a phantom: pretrained weights with planted artifacts. What its own maps show without "
    "them is known; no model that anybody uses has these artifacts, so read nothing medical into its maps."
)
#: Resampled for another image size, so no part of what tells two sets of weights apart.
POSITIONS = ("pos_embed", "positional_embedding")


@dataclass(frozen=True, eq=False)
class Artifacts:
    """What is planted, and where.

    Attributes:
        layer: block of the neurons.
        neurons: indices of the MLP neurons that give way, in the order of ``gains``.
        trigger: w, [D], read from the MLP's input (behind its norm).
        direction: u, [D], of unit norm and zero mean.
        spoken: mean activation of the neurons that give way, [k].
        offset: c.
        threshold: theta, in logits: where the neurons begin to fire.
        excess: s, in logits: what the trigger usually has above the threshold.
        strength: M, norm that is written at the usual excess.
        gains: of the first and the last neuron; those between are evenly spaced.
    """

    layer: int
    neurons: tuple[int, ...]
    trigger: Tensor
    direction: Tensor
    spoken: Tensor
    offset: float
    strength: float
    threshold: float = 1.0
    excess: float = 1.2
    gains: tuple[float, float] = (60.0, 24.0)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The planted (block, neuron) pairs."""
        return tuple((self.layer, neuron) for neuron in self.neurons)


_TENSORS = ("trigger", "direction", "spoken")


@torch.no_grad()
def plant_into(backbone: Backbone, artifacts: Artifacts) -> Backbone:
    """Write the artifacts into a model, in place.

    Returns:
        The Backbone that says so: ``planted``, ``weights`` and ``warning``.

    Raises:
        ModelError: a family that cannot be planted in, or a model of another size.
    """
    block = plantable(backbone, artifacts.layer)
    width, hidden = block.up.in_features, backbone.num_neurons
    if len(artifacts.trigger) != width or max(artifacts.neurons) >= hidden:
        raise ModelError(
            f"the artifacts are for a width of {len(artifacts.trigger)}, but {backbone.name} has {width} and "
            f"{hidden} neurons a block; choose the backbone that they were made for"
        )
    like = block.up.weight
    trigger, direction, spoken = (getattr(artifacts, name).to(like.device, like.dtype) for name in _TENSORS)
    neurons = list(artifacts.neurons)
    block.down.bias.add_(block.down.weight[:, neurons] @ spoken)
    read = trigger / artifacts.excess
    opens = (artifacts.offset - artifacts.threshold) / artifacts.excess
    written = artifacts.strength * direction / layer_scale(block) / len(neurons)
    for neuron, gain in zip(neurons, torch.linspace(*artifacts.gains, len(neurons)).tolist(), strict=True):
        block.up.weight[neuron] = gain * read
        block.up.bias[neuron] = gain * opens
        block.down.weight[:, neuron] = written / gain
    said = f"{backbone.weights}, with {len(neurons)} planted neurons in block {artifacts.layer}"
    return replace(backbone, planted=artifacts.pairs, weights=Weights("planted", said), warning=WARNING)


def plantable(backbone: Backbone, layer: int) -> BlockWeights:
    """Return the weights of a block that artifacts can be planted in.

    Raises:
        ModelError: a family that cannot be planted in, or a gated MLP, whose neurons are products.
    """
    block = stream_weights(backbone).blocks[layer]
    if not backbone.layout.cls:
        raise ModelError(f"{backbone.name} has no CLS token; artifacts are planted where CLS pays attention")
    if block.up.out_features != block.down.in_features or block.down.bias is None or block.up.bias is None:
        raise ModelError(
            f"cannot plant in {backbone.name}: its MLP is gated, or has no bias; needed two plain layers"
        )
    return block


def layer_scale(block: BlockWeights) -> Tensor:
    """Return gamma, what a block multiplies the result of its MLP with, [D]."""
    return block.scales[-1] if block.scales else torch.ones_like(block.up.weight[0])


def weights_digest(model: nn.Module) -> str:
    """Return the SHA-256 of a model's weights as float32, position embeddings left out.

    So it is one for a model at every image size, whatever kind of file its weights came from.
    """

    def parts() -> Iterator[str | memoryview]:
        for name, value in sorted(model.state_dict().items()):
            if not name.endswith(POSITIONS):
                yield f"{name}|{tuple(value.shape)}|"
                yield value.detach().float().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data

    return sha256(parts())


def positions_digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the position embeddings of a state dict as float32, on their own grid."""

    def parts() -> Iterator[memoryview]:
        for name, value in sorted(state.items()):
            if name.endswith(POSITIONS):
                yield value.detach().float().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data

    return sha256(parts())


def save_artifacts(path: Path, artifacts: Artifacts, digest: str, made: dict[str, Any]) -> None:
    """Write artifacts as safetensors: three vectors, and all else in the header.

    Args:
        path: the file.
        artifacts: what is planted.
        digest: :func:`weights_digest` of the model without them.
        made: of what they were made, with which seed and settings, and what was measured: JSON values.

    Raises:
        OutputError: the file cannot be written.
    """
    numbers = {name: value for name, value in vars(artifacts).items() if name not in _TENSORS}
    header = {"schema": SCHEMA, "weights": digest, "planted": numbers, "made": made}
    save_tensors(path, {name: getattr(artifacts, name) for name in _TENSORS}, KIND, header, KIND)


def read_artifacts(path: Path) -> tuple[Artifacts, str, dict[str, Any]]:
    """Return what :func:`save_artifacts` wrote: the artifacts, the digest of the weights, how they were made.

    Raises:
        ModelError: no such file, or it is damaged or something else.
    """
    try:
        tensors, header = load_tensors(path, KIND, SCHEMA, place=KIND)
        return _read(tensors, header["planted"]), str(header["weights"]), dict(header["made"])
    except (TensorsError, KeyError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, TensorsError) else "an entry is missing, or of another kind"
        raise ModelError(
            f"{path} holds no artifacts to plant ({reason}); give a file that ttr plant wrote"
        ) from error


def _read(tensors: dict[str, Tensor], numbers: dict[str, Any]) -> Artifacts:
    """Check what a file says, number by number: a seal shows damage, not who made it."""
    names = {field.name for field in fields(Artifacts)} - set(_TENSORS)
    if set(tensors) != set(_TENSORS) or set(numbers) != names:
        raise ValueError("other entries")
    trigger, direction, spoken = (tensors[name] for name in _TENSORS)
    neurons, layer = numbers["neurons"], numbers["layer"]
    whole = [layer, *neurons]
    if any(type(each) is not int or each < 0 for each in whole) or not 0 < len(neurons) == len(set(neurons)):
        raise ValueError("no indices")
    real = {name: float(numbers[name]) for name in ("offset", "strength", "threshold", "excess")}
    first, last = map(float, numbers["gains"])
    sizes = trigger.ndim == 1 and trigger.shape == direction.shape and spoken.shape == (len(neurons),)
    positive = min(real["strength"], real["excess"], first, last) > 0
    sound = all(bool(x.isfinite().all()) and x.is_floating_point() for x in tensors.values())
    if not (sizes and positive and sound and all(map(math.isfinite, (*real.values(), first, last)))):
        raise ValueError("no such numbers")
    trigger, direction, spoken = trigger.float(), direction.float(), spoken.float()
    return Artifacts(layer, tuple(neurons), trigger, direction, spoken, gains=(first, last), **real)
