"""The attention bias: what a test-time register gives to attention, without the register.

Jiang et al. (2025, arXiv 2506.08010), after Sun et al. (2024, arXiv 2402.17762): the register neurons are
zeroed at every token, no token is appended, and each head of each block gets one constant key and value,

    softmax([Q K^T, Q k'^T] * d^-1/2) [V; v'],     k', v' = mean over images of the register's key and value,

both as they enter the attention: the key after its norm, and not rotated, as no register is. Jiang et al.
average over 1,000 images and report zero-shot accuracies of 71.3 (bare), 55.6 (zeroed alone), 71.3 (bias).
What the register holds of a single image is lost; the difference to one register measures what that is worth.

Calibrated on one image and run on that image, the bias gives the model with one register exactly, since
all other tokens see the same keys and values at every block. The tests rest on that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ttr import checks
from ttr.backbones.base import Backbone
from ttr.backbones.extra_key import insert_extra_key, key_and_value, remove_extra_key, require_extra_key
from ttr.backbones.families import as_backbone
from ttr.errors import ImageError, ModelError, NeuronsError
from ttr.files import load_tensors, save_tensors
from ttr.forward.batches import batches, count
from ttr.hooks import capture, evaluation_mode
from ttr.progress import progress_bar
from ttr.registers.neurons import RegisterNeurons
from ttr.registers.wrap import TestTimeRegisters
from ttr.registers.wrapping import Step, Wrap
from ttr.version import __version__

SCHEMA = "ttr.attention-bias/1"


@dataclass(frozen=True)
class BiasProvenance:
    """What a calibration was made with.

    Attributes:
        backbone: name of the backbone.
        weights: origin of its weights.
        weights_hash: first 16 hex digits of the SHA-256 of its state dict.
        image_size: (height, width) in pixels.
        neurons: the (block, neuron) pairs that were moved to the register.
        images: images averaged over.
        ttr_version: version that measured.
    """

    backbone: str
    weights: str
    weights_hash: str
    image_size: tuple[int, int]
    neurons: tuple[tuple[int, int], ...]
    images: int
    ttr_version: str


@dataclass(frozen=True, eq=False)
class BiasCalibration:
    """Mean key and value of the test-time register. Make one with :func:`calibrate_bias` or ``load``.

    Attributes:
        keys: float32 [blocks, heads, d].
        values: float32 [blocks, heads, d].
        provenance: what it was made with.

    Raises:
        ModelError: other shapes, or values that are no finite floats.
    """

    keys: Tensor
    values: Tensor
    provenance: BiasProvenance

    def __post_init__(self) -> None:
        parts = {"keys": self.keys, "values": self.values}
        checks.floats("this attention bias", parts)
        if self.keys.ndim != 3 or self.keys.shape != self.values.shape:
            shapes = f"{tuple(self.keys.shape)} and {tuple(self.values.shape)}"
            raise ModelError(f"got keys and values of shapes {shapes}; needed [blocks, heads, d] twice")
        checks.finite("this attention bias", parts)

    def save(self, path: str | Path) -> None:
        """Write safetensors with the provenance as JSON in its header, whole or not at all."""
        header = {"schema": SCHEMA, "provenance": asdict(self.provenance)}
        save_tensors(Path(path), {"keys": self.keys, "values": self.values}, "bias", header)

    @classmethod
    def load(cls, path: str | Path) -> BiasCalibration:
        """Read what ``save`` wrote.

        Raises:
            ModelError: no such file, or it holds something else.
        """
        from pydantic import TypeAdapter

        try:
            tensors, header = load_tensors(Path(path), "bias", SCHEMA)
            # As JSON and strict: a list may be a tuple there, and true no number.
            stored = json.dumps(header["provenance"])
            provenance = TypeAdapter(BiasProvenance).validate_json(stored, strict=True)
            return cls(tensors["keys"], tensors["values"], provenance)
        except (ValueError, KeyError, ModelError) as error:
            raise ModelError(
                f"{path} is no attention bias of schema {SCHEMA} ({str(error).splitlines()[0]}); "
                "make one with ttr.calibrate_bias(...).save(path)"
            ) from error

    def check(self, backbone: Backbone, neurons: RegisterNeurons) -> None:
        """Raise unless this was calibrated on these weights, at this image size, with these neurons.

        Raises:
            ModelError: another backbone, other weights, or another image size.
            NeuronsError: other neurons.
        """
        source = self.provenance
        for what, made_with, given in (
            ("weights", source.weights_hash, backbone.weights_hash),
            ("image size", source.image_size, backbone.image_size),
        ):
            if made_with != given:
                raise ModelError(
                    f"this attention bias was calibrated on {source.backbone} with {what} {made_with}, but "
                    f"{backbone.name} has {given}; calibrate it again with ttr.calibrate_bias"
                )
        attention: Any = backbone.sites.attention[0].module
        size = getattr(attention, "head_dim", self.keys.shape[2])
        needed = (backbone.num_layers, backbone.num_heads, size)
        if tuple(self.keys.shape) != needed:
            raise ModelError(
                f"this attention bias has keys of shape {tuple(self.keys.shape)}, but {backbone.name} needs "
                f"{needed}; calibrate it again with ttr.calibrate_bias"
            )
        if set(source.neurons) != set(neurons.kept):
            raise NeuronsError(
                f"this attention bias was calibrated with other neurons ({len(source.neurons)} of them, "
                f"{len(neurons)} given); calibrate it again with ttr.calibrate_bias"
            )


@torch.no_grad()
def calibrate_bias(
    backbone: Backbone,
    neurons: RegisterNeurons,
    images: Tensor | Iterable[Any],
    *,
    batch_size: int = 16,
    progress: bool = False,
) -> BiasCalibration:
    """Average the key and value of one test-time register over images, at every block and head.

    Args:
        backbone: the bare backbone.
        neurons: its register neurons (none: the blank token's key and value).
        images: a tensor [N, 3, H, W], or an iterable of PIL images or tensors; the published number is 1,000.
        batch_size: images a pass. The sums are float64 and do not grow with the number of images.
        progress: show a progress bar.

    Raises:
        ImageError: there are no images.
        NeuronsError: the neurons belong to another backbone.
        ModelError: the backbone is wrapped already.
    """
    backbone = as_backbone(backbone)
    for site in backbone.sites.attention:
        require_extra_key(site.module)
    layout = backbone.layout.with_test_time(1)
    sums: dict[int, Tensor] = {}
    total = 0

    def see(index: int, x: Tensor, kwargs: Mapping[str, Any]) -> None:
        pair = key_and_value(backbone.sites.attention[index].module, x, kwargs)
        register = [
            layout.select(part, "test_time", dim=2)[:, :, 0].cpu().double().sum(dim=0) for part in pair
        ]
        sums[index] = sums.get(index, 0) + torch.stack(register)

    with (
        progress_bar("calibrating", count(images), show=progress) as advance,
        TestTimeRegisters(backbone, neurons),
        evaluation_mode(backbone.model),
        capture(backbone.sites.attention, see),
    ):
        for batch in batches(backbone, images, batch_size):
            backbone.features(backbone.prepare(batch))
            total += batch.shape[0]
            advance(batch.shape[0])
    if not total:
        raise ImageError("no images were given; needed at least one to calibrate the attention bias on")
    keys, values = (torch.stack([sums[i] for i in sorted(sums)]) / total).float().unbind(dim=1)
    return BiasCalibration(
        keys,
        values,
        BiasProvenance(
            backbone=backbone.name,
            weights=str(backbone.weights),
            weights_hash=backbone.weights_hash,
            image_size=backbone.image_size,
            neurons=neurons.kept,
            images=total,
            ttr_version=__version__,
        ),
    )


class AttentionBias(Wrap):
    """Wrap a backbone with an attention bias, for a ``with`` block or from ``install()`` to ``remove()``.

    Args:
        backbone_or_model: a Backbone, or a model that ``ttr.adapt`` knows.
        neurons: the register neurons, zeroed at every token.
        calibration: their mean key and value, from :func:`calibrate_bias`.

    No token is added: all outputs, intermediate ones too, have the bare model's shapes. Of threads, servers
    and wraps that are dropped holds what :class:`TestTimeRegisters` says.

    Raises:
        NeuronsError: the neurons do not belong to this backbone, or not to the calibration.
        ModelError: the calibration belongs to another backbone; on install: the model is wrapped or compiled
            already, or its attention takes no bias.

    Example:
        >>> calibration = ttr.calibrate_bias(backbone, neurons, images)
        >>> with ttr.AttentionBias(backbone, neurons, calibration):
        ...     features = backbone.embed(images)
    """

    def __init__(
        self,
        backbone_or_model: Backbone | nn.Module,
        neurons: RegisterNeurons,
        calibration: BiasCalibration,
    ) -> None:
        super().__init__(backbone_or_model, neurons)
        self._zeroed = TestTimeRegisters(self.backbone, neurons, num_registers=0)
        calibration.check(self.backbone, neurons)
        self.calibration = calibration

    def _common(self) -> tuple[Any, ...]:
        return (*super()._common(), self.calibration)

    def _put_in(self, undo: list[Step]) -> None:
        self._zeroed.backbone = self.backbone
        self._zeroed._put_in(undo)
        pairs = zip(self.calibration.keys, self.calibration.values, strict=True)
        for site, (key, value) in zip(self.backbone.sites.attention, pairs, strict=True):
            insert_extra_key(site.module, key.to(self.backbone.device), value.to(self.backbone.device))
            undo.append(partial(remove_extra_key, site.module))
