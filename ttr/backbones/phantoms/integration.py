"""Phantoms that differ in one thing: what CLS is made of in the last block, by construction.

``phantom-patches``     of the patches: the map tells the truth
``phantom-registers``   of four trained registers: the map shows patches and tells nothing
``phantom-skip``        of what CLS held before: the map shows patches and tells nothing

They are one random Vision Transformer with four trained registers, and pay the same attention to one patch
relative to another: up to a factor the three maps are one map. Only what stands behind it differs. How:

  1. Dimensions of the residual stream are reserved, read and written by nothing else: two hold a patch's
     *colour* (red - green, green - blue), one a *mark* that the registers alone carry, one *nothing*, the
     rest a *store*.
  2. In an early block pairs of MLP neurons, opened wide by the mark (c = 20 on a register, -10 elsewhere),
     copy what a register has gathered of the image into its store: gelu(c + h) - gelu(c - h) = 2 h. Patches
     and CLS get none.
  3. The values of the last block read, in phantom-registers, the store and a little colour, so that the
     registers' contribution (texture) and the patches' (colour) are independent; a key along the mark (less
     nothing, since a norm moves all dimensions alike) draws the attention there. In the others they read the
     ordinary dimensions.
  4. The gain of the last block's attention decides over the skip connection.

Three more are made to fool whoever asks less than the whole question:

``phantom-constant``  phantom-skip, and a bias of the final norm that no image made: the patches' feature and
                      the whole one look alike because both hold it
``phantom-sink``      of the patches, but most of the attention goes to a corner patch that gives nothing:
                      its mark is so large that a norm leaves next to nothing of all else; no value reads it
``phantom-offset``    of the patches, and a large vector that CLS carries from the beginning on, the same for
                      all images: the patches' feature and the whole one look different because one lacks it
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.backbones.phantoms.planting import grey_noise, reserve, see
from ttr.backbones.phantoms.weights import BlockWeights, StreamWeights, stream_weights
from ttr.hooks import Site

WARNING = (
    "This backbone is a phantom: random weights, and a last block built so that it is known what CLS is made "
    "of. It proves the instrument, not the biology; read nothing medical into its maps."
)
SEED = 11
STORE = 32
COPYING_BLOCK = 3
OPENING = 10.0
MARK = 3.0


@dataclass(frozen=True)
class Truth:
    """What CLS is made of in the last block.

    Attributes:
        gain: of the attention's output projection.
        ordinary: gain of the values on the ordinary dimensions.
        colour: gain of the values on the colour.
        store: gain of the values on the registers' store.
        mass: attention that the registers hold together, 0..1; None: what they get anyway.
        sink: attention that the upper left patch holds, 0..1, and gives nothing for; None: no sink.
        constant: size of the final norm's bias, in units of a normed dimension.
        offset: what CLS carries from the beginning on, in each dimension of the store.
    """

    gain: float
    ordinary: float = 0.0
    colour: float = 0.0
    store: float = 0.0
    mass: float | None = None
    sink: float | None = None
    constant: float = 0
    offset: float = 0


TRUTHS = {
    "phantom-patches": Truth(gain=30, ordinary=1),
    "phantom-registers": Truth(gain=10, colour=1, store=1, mass=0.95),
    "phantom-skip": Truth(gain=0.5, ordinary=1),
    "phantom-constant": Truth(gain=0.5, ordinary=1, constant=3),
    "phantom-sink": Truth(gain=100, ordinary=1, sink=0.9),
    "phantom-offset": Truth(gain=100, ordinary=1, offset=1200),
}
#: The mark of a sink: the norm before the attention leaves a thousandth of all else.
SINK = 10_000.0


@dataclass(frozen=True)
class Reserved:
    """Indices of the reserved dimensions in a residual stream of some width."""

    width: int

    @property
    def mark(self) -> int:
        """What the registers alone carry."""
        return self.width - 1

    @property
    def nothing(self) -> int:
        """What no token carries."""
        return self.width - 2

    @property
    def colour(self) -> list[int]:
        """Red - green, and green - blue."""
        return [self.width - 4, self.width - 3]

    @property
    def store(self) -> list[int]:
        """What the registers have gathered."""
        return list(range(self.width - 4 - STORE, self.width - 4))

    def all(self) -> list[int]:
        """Return all of them."""
        return [*self.store, *self.colour, self.nothing, self.mark]


@torch.no_grad()
def build(backbone: Backbone, name: str) -> Backbone:
    """Give a random timm ViT with trained registers the truth of the phantom of this name, in place."""
    truth, stream = TRUTHS[name], stream_weights(backbone)
    reserved = Reserved(stream.cls.shape[-1])
    reserve(stream, reserved.all())
    _mark(stream, truth, reserved)
    generator = torch.Generator().manual_seed(SEED)
    if truth.sink is None:
        _plant_store(backbone, stream, reserved, generator)
    last = stream.blocks[-1]
    _plant_values(last, truth, reserved, generator)
    _plant_sink(backbone, last, truth, reserved)
    last.out.weight *= truth.gain
    _add_constants(backbone, stream, truth, reserved)
    return replace(backbone, warning=WARNING)


def _mark(stream: StreamWeights, truth: Truth, reserved: Reserved) -> None:
    """Write colour into the patches, and the mark into the registers or into the sink."""
    assert stream.registers is not None
    if truth.sink is None:
        stream.registers[..., reserved.mark] = MARK
    else:
        corner = stream.position[..., stream.position_prefix, :]
        corner[..., reserved.mark], corner[..., reserved.nothing] = SINK, -SINK
    area = stream.patch_embed.weight[0, 0].numel()
    for first, dim in enumerate(reserved.colour):
        stream.patch_embed.weight[dim, first] = MARK / area
        stream.patch_embed.weight[dim, first + 1] = -MARK / area


def _plant_store(
    backbone: Backbone, stream: StreamWeights, reserved: Reserved, generator: torch.Generator
) -> None:
    """Let neuron pairs of an early block copy random projections of a register into its store."""
    block = stream.blocks[COPYING_BLOCK]
    at_register = _on_marked(backbone, block.norm_mlp, reserved)
    ordinary = reserved.width - len(reserved.all())
    for place, dim in enumerate(reserved.store):
        reads = torch.randn(ordinary, generator=generator) * ordinary**-0.5
        for neuron, sign in ((2 * place, 1), (2 * place + 1, -1)):
            block.up.weight[neuron] = 0
            block.up.weight[neuron, :ordinary] = sign * reads
            block.up.weight[neuron, reserved.mark] = 3 * OPENING / at_register
            block.up.weight[neuron, reserved.nothing] = -3 * OPENING / at_register
            block.up.bias[neuron] = -OPENING
            block.down.weight[:, neuron] = 0
            block.down.weight[dim, neuron] = sign * MARK


def _plant_values(block: BlockWeights, truth: Truth, reserved: Reserved, generator: torch.Generator) -> None:
    width = reserved.width
    values = block.qkv_weight[2 * width :]
    values[:, : width - len(reserved.all())] *= truth.ordinary
    for dims, gain in ((reserved.colour, truth.colour), (reserved.store, truth.store)):
        drawn = torch.randn(width, len(dims), generator=generator)
        # A norm moves all dimensions by the token's mean; rows that sum to zero do not see it.
        values[:, dims] = gain * (drawn - drawn.mean(dim=1, keepdim=True)) * len(dims) ** -0.5


def _plant_sink(backbone: Backbone, block: BlockWeights, truth: Truth, reserved: Reserved) -> None:
    """Keep one channel of each head for a constant query and a key along the mark."""
    width, head, layout = reserved.width, reserved.width // block.heads, backbone.layout
    mass, carriers = (truth.mass, layout.registers) if truth.sink is None else (truth.sink, 1)
    marked = _on_marked(backbone, backbone.sites.attention[-1].module, reserved, truth)
    logit = 0.0 if mass is None else math.log(mass / (1 - mass) * layout.length / carriers)
    strength = math.sqrt(logit * math.sqrt(head) / marked)
    block.aim(width, strength, {reserved.mark: 1, reserved.nothing: -1})


def _add_constants(backbone: Backbone, stream: StreamWeights, truth: Truth, reserved: Reserved) -> None:
    """Write what is in no image: the final norm's bias, and what CLS carries from the beginning on."""
    generator = torch.Generator().manual_seed(SEED)
    if truth.constant:
        bias: Tensor = backbone.sites.final_norm.bias  # type: ignore[assignment]
        bias.copy_(truth.constant * torch.randn(bias.shape, generator=generator))
    if truth.offset:
        sizes = torch.randn(len(reserved.store), generator=generator)
        stream.cls[..., reserved.store] = truth.offset * (sizes - sizes.mean())
        # Behind a norm such a CLS has nothing else to ask with.
        query = stream.blocks[-1].qkv_bias[: reserved.width]
        query.copy_(torch.randn(query.shape, generator=generator))


def _on_marked(
    backbone: Backbone, module: torch.nn.Module, reserved: Reserved, truth: Truth | None = None
) -> float:
    """Return the mean mark, less nothing, of its carriers, at a norm's output or an attention's input."""
    site = Site(module, "output" if isinstance(module, torch.nn.LayerNorm) else "input")
    seen: Tensor = see(backbone, site, grey_noise(backbone))
    if truth is None or truth.sink is None:
        marked = backbone.layout.select(seen, "registers")
    else:
        marked = backbone.layout.select(seen, "patches")[:, :1]
    return float((marked[..., reserved.mark] - marked[..., reserved.nothing]).mean())
