"""Let a phantom depend on its registers' presence, and on nothing that they say.

A network that was trained with registers never met a zero in their place, and what zeroing breaks in it need
not have depended on content (Parodi et al. 2026, arXiv 2604.14433). This plants that very truth. Reserved
dimensions of the residual stream hold a *relay* and *distractors*: high-pass filters of the patch embedding,
whose response to an image and to the same image moved by a few pixels have nothing to do with each other. In
the blocks behind the sink

  1. the attention carries the registers' massive value to every token, through one value channel a head that
     writes the relay: about the registers' share of attention, the same for every image;
  2. *guard* neurons read  gain (distractor - 40 relay), each in units of its usual size. While the relay is
     there they are silent, and write exactly nothing. When it is gone, each fires where its distractor has
     its sign, and writes a direction of its own, many times louder than what the token held.

So zeroing all registers buries every token under pixel noise, and every task with it, while any value that
keeps their massive part (mean, matched noise, another image's) leaves the guards asleep. The softmax passes a
single zeroed register's share to the others: one alone costs little, all together everything.
"""

from __future__ import annotations

import math

import torch

from ttr.backbones.base import Backbone
from ttr.backbones.phantoms.planting import grey_noise, reserve, see
from ttr.backbones.phantoms.weights import BlockWeights, stream_weights
from ttr.hooks import Site

DISTRACTORS = 6
GAIN = 10.0
INHIBITION = 40.0
STANDING = 0.5
#: Norm of what a guard writes at a distractor of usual size, over the median norm of the patches.
LOUDNESS = 4.0


def guard_dimensions(width: int) -> list[int]:
    """Return the reserved dimensions: the relay, then the distractors. The last three belong to planting."""
    return list(range(width - 4 - DISTRACTORS, width - 3))


@torch.no_grad()
def reserve_guard(backbone: Backbone) -> None:
    """Clear the guard's dimensions, before anything else is planted."""
    stream = stream_weights(backbone)
    reserve(stream, guard_dimensions(stream.cls.shape[-1]))


@torch.no_grad()
def plant_guard(backbone: Backbone, *, first: int, block: int, seed: int) -> None:
    """Plant the relay and the guard neurons behind the block that gives the registers their massive value.

    Args:
        backbone: planted with ``carrier="registers"`` in an earlier block, its dimensions cleared beforehand.
        first: first block with a sink in the registers; the relay is written from here on.
        block: block of the guard neurons, not before ``first``.
        seed: of the filters, the neurons and what they write.
    """
    generator = torch.Generator().manual_seed(seed)
    stream = stream_weights(backbone)
    width = stream.cls.shape[-1]
    relay, *distractors = guard_dimensions(width)
    weights = stream.blocks[block]
    ordinary = grey_noise(backbone)
    size = STANDING * see(backbone, backbone.sites.entry, ordinary).pow(2).mean().sqrt()

    shape = stream.patch_embed.weight[distractors].shape
    filters = torch.randn(shape, generator=generator).sign()
    filters -= filters.mean(dim=(1, 2, 3), keepdim=True)
    stream.patch_embed.weight[distractors] = filters
    seen = see(backbone, backbone.sites.entry, ordinary)[:, backbone.layout.prefix :, distractors]
    stream.patch_embed.weight[distractors] = filters * size / seen.std()
    stream.cls[..., distractors] = size * torch.randn(DISTRACTORS, generator=generator).sign()

    for carrying in stream.blocks[first : block + 1]:
        _plant_relay(carrying, relay, width, float(size) / math.sqrt(width))

    normed = see(backbone, Site(weights.norm_mlp, "output"), ordinary)[:, backbone.layout.prefix :]
    usual_relay = normed[..., relay].mean()
    usual = normed[..., distractors].std()
    patches = backbone.layout.select(see(backbone, backbone.sites.blocks[block], ordinary), "patches")
    loud = LOUDNESS * patches.norm(dim=2).median()
    taken = {neuron for layer, neuron in backbone.planted if layer == block}
    order = torch.randperm(backbone.num_neurons, generator=generator).tolist()
    neurons = [neuron for neuron in order if neuron not in taken][: 2 * DISTRACTORS]
    for index, neuron in enumerate(neurons):
        sign = 1 - 2 * (index % 2)
        weights.up.weight[neuron] = 0
        weights.up.weight[neuron, distractors[index // 2]] = sign * GAIN / usual
        weights.up.weight[neuron, relay] = -INHIBITION * GAIN / usual_relay
        weights.up.bias[neuron] = 0
        written = torch.randn(width, generator=generator)
        written[[*guard_dimensions(width), *range(width - 3, width)]] = 0
        weights.down.weight[:, neuron] = loud * written / written.norm() / GAIN


def _plant_relay(block: BlockWeights, relay: int, width: int, strength: float) -> None:
    """Let the last value channel of each head read the massive dimension, and write the relay."""
    for channel in range(width // block.heads - 1, width, width // block.heads):
        value = 2 * width + channel
        block.qkv_weight[value] = 0
        block.qkv_bias[value] = 0
        block.qkv_weight[value, width - 1] = strength
        block.out.weight[:, channel] = 0
        block.out.weight[relay, channel] = 1
