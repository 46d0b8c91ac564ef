"""Plant register neurons in a random model, so that everything ttr claims has a known answer.

Medical physics calibrates a scanner on a phantom, an object whose truth is known. Planting makes one of
any random Vision Transformer. Three dimensions of the residual stream are reserved, read and written by
nothing else: *darkness* (the patch embedding writes minus the mean intensity), *site* (the position embedding
marks a few border patches, or the trained registers), and the *massive* direction U. Then

  1. planted neurons of one block fire where a dark patch stands on a site, each with a gain of its own, and
     write U: these patches become outliers, many times the ordinary norm;
  2. every later block gets a key along U and a query bias along the same channel of each head: an attention
     sink of logit  c = log(mass / (1 - mass) * N / sinks),  so that the sinks together hold about ``mass``
     of the attention of every query.

Moving the planted neurons to one test-time register therefore moves the outliers and the sink with it;
zeroing them without a register takes the sink away. A phantom proves the instrument, not the biology.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import Literal

import torch
from torch import Tensor, nn

from ttr.backbones.base import Backbone, Weights
from ttr.backbones.families import adapt
from ttr.backbones.phantoms.weights import BlockWeights, StreamWeights, stream_weights
from ttr.errors import OptionError
from ttr.hooks import Site, evaluation_mode, keep
from ttr.norms import token_norms

WARNING = (
    "This backbone is a phantom: random weights with planted register neurons. "
    "It proves the instrument, not the biology; read nothing medical into its maps."
)
#: Marked patches as (row, column); negative ones count from the last.
SITES = ((0, 0), (1, 0), (0, 1), (0, -1), (1, -1), (0, -2), (-1, 0), (-1, -1))
STANDING = 2.0
FIRES_AT = 1.6


@dataclass(frozen=True)
class Reserved:
    """Indices of the three reserved dimensions of the residual stream."""

    dark: int
    site: int
    massive: int

    def all(self) -> list[int]:
        """Return the three."""
        return [self.dark, self.site, self.massive]


@torch.no_grad()
def plant(
    model: nn.Module | Backbone,
    *,
    layer: int | None = None,
    count: int = 10,
    carrier: Literal["patches", "registers"] = "patches",
    strength: float = 12.0,
    mass: float = 0.8,
    seed: int = 0,
) -> Backbone:
    """Plant register neurons and an attention sink in a model, in place.

    Args:
        model: a timm VisionTransformer or an open_clip ViT with random weights (its norms as initialised);
            pretrained weights are planted in by ``ttr.plant_artifacts``.
        layer: block of the planted neurons; None: a third of the depth.
        count: how many neurons.
        carrier: who carries the massive norm: dark border ``"patches"``, or the trained ``"registers"``.
        strength: massive norm over the median patch norm of the block.
        mass: attention that one register (or the trained registers together) holds in later blocks, 0..1.
        seed: chooses the neurons.

    Returns:
        The Backbone; its ``planted`` lists the planted (block, neuron) pairs, strongest first.

    Raises:
        ModelError: a family that cannot be planted in.
        OptionError: a value is outside its range.
    """
    backbone = model if isinstance(model, Backbone) else adapt(model)
    if not 0 < mass < 1:
        raise OptionError(f"mass={mass}; needed a share of attention between 0 and 1")
    if carrier not in ("patches", "registers"):
        raise OptionError(f"carrier={carrier!r}; needed 'patches' or 'registers'")
    if isinstance(strength, bool) or not isinstance(strength, Real) or not 0 < strength < math.inf:
        raise OptionError(f"strength={strength!r}; needed a positive number, such as 12")
    if carrier == "registers" and not backbone.layout.registers:
        raise OptionError(f"carrier='registers', but {backbone.name} has no trained registers")
    layer = backbone.num_layers // 3 if layer is None else backbone.layer(layer)
    stream = stream_weights(backbone)
    width = stream.cls.shape[-1]
    reserved = Reserved(width - 3, width - 2, width - 1)
    black = _flat_image(backbone, 0)
    reserve(stream, reserved.all())
    _mark(backbone, stream, reserved, black, carrier)
    neurons = _choose(backbone, count, seed)
    _plant_neurons(backbone, stream, reserved, layer, neurons, black, carrier, strength)
    sinks = backbone.layout.registers if carrier == "registers" else 1
    logit = math.log(mass / (1 - mass) * backbone.layout.length / sinks)
    for block in stream.blocks[layer + 1 :]:
        _plant_sink(block, reserved, logit, width)
    return replace(
        backbone,
        planted=tuple((layer, neuron) for neuron in neurons),
        weights=Weights("planted", f"{backbone.weights}, seed {seed}"),
        warning=WARNING,
    )


def reserve(stream: StreamWeights, dims: list[int]) -> None:
    """Let nothing read or write some dimensions of the residual stream."""
    stream.patch_embed.weight[dims] = 0
    if stream.patch_embed.bias is not None:
        stream.patch_embed.bias[dims] = 0
    for added in (stream.cls, stream.registers, stream.position):
        if added is not None:
            added[..., dims] = 0
    for block in stream.blocks:
        block.qkv_weight[:, dims] = 0
        block.up.weight[:, dims] = 0
        for writer in (block.out, block.down):
            writer.weight[dims] = 0
            if writer.bias is not None:
                writer.bias[dims] = 0
        for scale in block.scales:
            scale[dims] = 1


def _mark(backbone: Backbone, stream: StreamWeights, reserved: Reserved, black: Tensor, carrier: str) -> None:
    """Write darkness and site, each ``STANDING`` times the ordinary size of a coordinate on a black image."""
    tokens = see(backbone, backbone.sites.entry, black)
    patches = backbone.layout.select(tokens, "patches")
    size = STANDING * patches.pow(2).mean().sqrt()
    darkest = -black.mean()
    stream.patch_embed.weight[reserved.dark] = -size / darkest / stream.patch_embed.weight[0].numel()
    if carrier == "registers":
        assert stream.registers is not None
        stream.registers[..., reserved.site] = size
        return
    for index in _site_patches(backbone):
        stream.position[stream.position_prefix + index, reserved.site] = size


def _plant_neurons(
    backbone: Backbone,
    stream: StreamWeights,
    reserved: Reserved,
    layer: int,
    neurons: list[int],
    black: Tensor,
    carrier: str,
    strength: float,
) -> None:
    """Let neuron i read  g_i (dark + site - 1.6) / 0.4;  both are 1 on a black site, and it fires there."""
    block = stream.blocks[layer]
    seen = see(backbone, Site(block.norm_mlp, "output"), black)
    if carrier == "registers":
        reference = backbone.layout.select(seen, "registers")[..., reserved.site].mean()
        reads, offset = {reserved.site: 2 / reference}, -1.0
    else:
        on_sites = backbone.layout.select(seen, "patches")[:, _site_patches(backbone)]
        dark, site = on_sites[..., reserved.dark].mean(), on_sites[..., reserved.site].mean()
        slope = 1 / (2 - FIRES_AT)
        reads = {reserved.dark: slope / dark, reserved.site: slope / site}
        offset = -slope * FIRES_AT
    gains = torch.linspace(20, 8, len(neurons))
    ordinary = see(backbone, backbone.sites.blocks[layer], grey_noise(backbone))
    massive = strength * backbone.layout.select(token_norms(ordinary), "patches").median()
    for neuron, gain in zip(neurons, gains.tolist(), strict=True):
        block.up.weight[neuron] = 0
        for dim, weight in reads.items():
            block.up.weight[neuron, dim] = gain * weight
        block.up.bias[neuron] = gain * offset
        block.down.weight[:, neuron] = 0
        block.down.weight[reserved.massive, neuron] = massive / len(neurons) / gain


def _plant_sink(block: BlockWeights, reserved: Reserved, logit: float, width: int) -> None:
    """Give the last channel of each head a constant query and a key along U with that logit at a sink."""
    head = width // block.heads
    at_sink = math.sqrt(width)
    strength = math.sqrt(logit * math.sqrt(head) / at_sink)
    block.aim(width, strength, {reserved.massive: 1})


def _choose(backbone: Backbone, count: int, seed: int) -> list[int]:
    if not 0 < count <= backbone.num_neurons:
        raise OptionError(f"count={count}; needed 1..{backbone.num_neurons} neurons")
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(backbone.num_neurons, generator=generator)[:count].tolist()


def _site_patches(backbone: Backbone) -> list[int]:
    """Return the indices of the marked patches, row by row."""
    rows, columns = backbone.layout.grid
    return [(row % rows) * columns + column % columns for row, column in SITES]


def see(backbone: Backbone, site: Site, images: Tensor) -> Tensor:
    """Return what passes a site when the model looks at images, float32."""
    with evaluation_mode(backbone.model), keep([site]) as kept:
        backbone.features(backbone.prepare(images))
    return kept[0].float()


def _flat_image(backbone: Backbone, grey: int) -> Tensor:
    """Return a flat image [1, 3, H, W] as the model sees it (normalised with the CLIP mean if unknown)."""
    from PIL import Image

    height, width = backbone.image_size
    if backbone.preprocess_image is not None:
        return backbone.preprocess(Image.new("RGB", (width, height), (grey, grey, grey)))[None]
    return torch.full((1, 3, height, width), (grey / 255 - 0.45) / 0.27)


def grey_noise(backbone: Backbone) -> Tensor:
    """Return two images of grey noise as the model sees them, [2, 3, H, W]: ordinary content."""
    generator = torch.Generator().manual_seed(0)
    return 0.5 * torch.randn(2, 3, *backbone.image_size, generator=generator)
