"""Let a phantom depend on its registers' presence, and on nothing that they say.

A network that was trained with registers never met a zero in their place, and what zeroing breaks in it need
not have depended on content (Parodi et al. 2026, arXiv 2604.14433). This plants that very truth. Reserved
dimensions of the residual stream hold a *relay* and a *position code* (random signs a token). In one block
behind the sink

  1. the attention carries the registers' massive value to every token, through one value channel that writes
     the relay: about the registers' share of attention, the same for every image;
  2. *guard* neurons read  gain (code - 3 relay / its usual size).  While the relay is there they are silent,
     and write exactly nothing. When it is gone, each fires where its sign of the code stands, and writes a
     direction of its own over what the token held.

So zeroing all registers buries every token under its position, and every task with it, while any value that
keeps their massive part (mean, matched noise, another image's) leaves the guards asleep. The softmax passes a
single zeroed register's share to the others: one alone costs little, all together everything.
"""

from __future__ import annotations

import math

import torch

from ttr.backbones.base import Backbone
from ttr.backbones.planting import reserve, see
from ttr.backbones.stream import stream_weights
from ttr.hooks import Site

CODES = 4
GAIN = 10.0
INHIBITION = 3.0
STANDING = 2.0
#: Norm of what a guard writes over the median norm of the patches.
LOUDNESS = 2.0


def guard_dimensions(width: int) -> list[int]:
    """Return the reserved dimensions: the relay, then the codes. The last three belong to planting."""
    return list(range(width - 4 - CODES, width - 3))


@torch.no_grad()
def reserve_guard(backbone: Backbone) -> None:
    """Clear the guard's dimensions, before anything else is planted."""
    stream = stream_weights(backbone)
    reserve(stream, guard_dimensions(stream.cls.shape[-1]))


@torch.no_grad()
def plant_guard(backbone: Backbone, *, block: int, seed: int) -> None:
    """Plant the relay and the guard neurons in a block whose attention has a sink in the registers.

    Args:
        backbone: planted with ``carrier="registers"`` in an earlier block, its dimensions cleared beforehand.
        block: where.
        seed: of the codes, the neurons and what they write.
    """
    generator = torch.Generator().manual_seed(seed)
    stream = stream_weights(backbone)
    width = stream.cls.shape[-1]
    relay, *codes = guard_dimensions(width)
    weights = stream.blocks[block]
    black = torch.zeros(1, 3, *backbone.image_size)
    size = STANDING * see(backbone, backbone.sites.entry, black).pow(2).mean().sqrt()
    stream.position[:, codes] = size * torch.randn(len(stream.position), CODES, generator=generator).sign()
    stream.cls[..., codes] = size * torch.randn(CODES, generator=generator).sign()

    channel = width // weights.heads - 1
    value = 2 * width + channel
    weights.qkv_weight[value] = 0
    weights.qkv_bias[value] = 0
    weights.qkv_weight[value, width - 1] = size / math.sqrt(width)
    weights.out.weight[:, channel] = 0
    weights.out.weight[relay, channel] = 1

    normed = see(backbone, Site(weights.norm_mlp, "output"), black)[:, backbone.layout.prefix :]
    usual_relay, usual_code = normed[..., relay].mean(), normed[..., codes].abs().mean()
    patches = backbone.layout.select(see(backbone, backbone.sites.blocks[block], black), "patches")
    loud = LOUDNESS * patches.norm(dim=2).median()
    taken = {neuron for layer, neuron in backbone.planted if layer == block}
    order = torch.randperm(backbone.num_neurons, generator=generator).tolist()
    neurons = [neuron for neuron in order if neuron not in taken][: 2 * CODES]
    for index, neuron in enumerate(neurons):
        sign = 1 - 2 * (index % 2)
        weights.up.weight[neuron] = 0
        weights.up.weight[neuron, codes[index // 2]] = sign * GAIN / usual_code
        weights.up.weight[neuron, relay] = -INHIBITION * GAIN / usual_relay
        weights.up.bias[neuron] = 0
        written = torch.randn(width, generator=generator)
        written[[*guard_dimensions(width), *range(width - 3, width)]] = 0
        weights.down.weight[:, neuron] = loud * written / written.norm() / GAIN
