"""The models of the tables, full-size with random weights, and the ways to run each: an arm is a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

import ttr
from tests.benchmarks.settings import Settings, torch_dtype
from tests.tools import tiny_models
from ttr.backbones import Backbone
from ttr.registers.wrapping import Wrap


@dataclass(frozen=True)
class Model:
    """One model of the tables.

    Attributes:
        name: as its library calls it.
        library: whose code runs.
        load: builds its backbone, at a size in pixels.
        neurons: how many are moved, as many as published for the size.
        top_layer: the last block that holds some.
    """

    name: str
    library: str
    load: Callable[[int], Backbone]
    neurons: int
    top_layer: int
    pixels: int = 224


def _tiny(build: Callable[[], nn.Module], pixels: int) -> Backbone:
    return ttr.adapt(build().eval())


def _transformers(width: int, depth: int, pixels: int) -> Backbone:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    sizes = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": width // 64}
    return ttr.adapt(Dinov2Model(Dinov2Config(image_size=pixels, **sizes)).eval())


def _by_name(library: str, name: str) -> Callable[[int], Backbone]:
    return lambda pixels: ttr.load(f"{library}:{name}", image_size=pixels)


#: How many neurons are published for a size, and the last block that holds some.
SIZES = {"s": (20, 5), "b": (20, 5), "l": (50, 19)}
NAMES = {
    "timm": {
        "s": "vit_small_patch14_dinov2",
        "b": "vit_base_patch14_dinov2",
        "l": "vit_large_patch14_dinov2",
    },
    "open_clip": {"s": "ViT-S-16", "b": "ViT-B-16", "l": "ViT-L-14"},
}
SHAPES = {"s": (384, 12), "b": (768, 12), "l": (1024, 24)}
TINY = {
    "timm": tiny_models.tiny_vit,
    "open_clip": tiny_models.tiny_clip,
    "transformers": tiny_models.TRANSFORMERS["transformers-dinov2"],
}
MODELS = {
    **{
        f"{library}-{size}": Model(name, library, _by_name(library, name), *SIZES[size])
        for library, names in NAMES.items()
        for size, name in names.items()
    },
    **{
        f"transformers-{size}": Model(
            f"Dinov2Model {size.upper()}/14", "transformers", partial(_transformers, *shape), *SIZES[size]
        )
        for size, shape in SHAPES.items()
    },
    **{
        f"{library}-tiny": Model("tiny", library, partial(_tiny, made), 4, 2, tiny_models.SIZE)
        for library, made in TINY.items()
    },
}


def build(key: str, device: str, dtype: str, pixels: int | None = None) -> Backbone:
    """Return a model on its device, in its type, at 224 px or the size that is asked for."""
    model = MODELS[key]
    backbone = model.load(pixels or model.pixels)
    backbone.model.to(device=device, dtype=torch_dtype(dtype))
    return backbone


def spread(key: str, backbone: Backbone) -> ttr.RegisterNeurons:
    """Return as many neurons as published, spread over the blocks; which they are changes no cost."""
    model = MODELS[key]
    pairs = [(i % model.top_layer + 1, 37 * i % backbone.num_neurons) for i in range(model.neurons)]
    return ttr.RegisterNeurons.from_pairs(pairs)


def pictures(backbone: Backbone, batch: int, seed: int = 0) -> Tensor:
    """Return noise images on the model's device and in its type, [batch, C, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(batch, backbone.channels, *backbone.image_size, generator=generator)
    return noise.to(backbone.device, backbone.dtype)


def wrapped(key: str, backbone: Backbone, arm: str, registers: int) -> Backbone:
    """Return the backbone under an arm, a second model around the same weights, as a server keeps it.

    Args:
        key: of :data:`MODELS`.
        backbone: the bare one.
        arm: ``"bare"``, ``"blank"``, ``"ttr"`` or ``"attention bias"``.
        registers: R of the blank and the ttr arm.
    """
    neurons = spread(key, backbone)
    wrap: Wrap
    if arm == "bare":
        return backbone
    if arm == "attention bias":
        calibration = ttr.calibrate_bias(backbone, neurons, pictures(backbone, 1))
        wrap = ttr.AttentionBias(backbone, neurons, calibration)
    else:
        moved = neurons if arm == "ttr" else ttr.RegisterNeurons.from_pairs([])
        wrap = ttr.TestTimeRegisters(backbone, moved, num_registers=registers)
    return wrap.copy().backbone


def arms(settings: Settings, key: str) -> dict[str, tuple[str, int]]:
    """Return the arms of a model's forward table by name, as (arm, R)."""
    found: dict[str, tuple[str, int]] = {"bare": ("bare", 0)}
    for count in settings.registers:
        if count:
            found[f"blank R={count}"] = ("blank", count)
        found[f"ttr R={count}"] = ("ttr", count)
    if MODELS[key].library != "transformers":  # whose attention takes no bias
        found["attention bias"] = ("attention bias", 0)
    return found


def forward(backbone: Backbone) -> Callable[[Tensor], Tensor]:
    """Return the model's own call, without gradients and without any check of ours."""
    return torch.no_grad()(backbone.features)
