"""Before and after: what moving the registers does to norms and attention, image by image.

``compare`` runs every image through the bare backbone and through the wrapped one, and keeps for each run the
numbers of the published figures: the largest patch norm, the outlier patches, the largest attention that CLS
pays to a patch, and what the registers hold of both, at every block. The outlier threshold is taken from the
bare map and applied to both, so that before and after are measured with one yardstick.

A cleaner map is not a more faithful one: these numbers say what moved, not whether the map tells the truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.batches import batches, count
from ttr.capture import Record, record
from ttr.errors import OptionError
from ttr.neurons import RegisterNeurons
from ttr.norms import Threshold, outlier_threshold
from ttr.progress import progress_bar
from ttr.registers import TestTimeRegisters


@dataclass(frozen=True)
class Curves:
    """One number a block, in order; None where there are no registers.

    ``max_patch_norm``, ``median_patch_norm``: L2 norms of the patches at the block's output.
    ``max_patch_attention``: largest attention of the CLS query to a patch, mean of the heads, 0..1.
    ``register_attention``: attention of CLS to all registers together, 0..1.
    ``register_norm``: largest norm of a register, trained or test-time.
    """

    max_patch_norm: tuple[float, ...]
    median_patch_norm: tuple[float, ...]
    max_patch_attention: tuple[float, ...]
    register_attention: tuple[float, ...]
    register_norm: tuple[float, ...] | None


@dataclass(frozen=True)
class Maps:
    """Arrays of one run at the last block, float32; not part of the JSON.

    ``norms``, ``attention``: [rows, columns] of the patch grid. ``register_norms``,
    ``register_attention``: [T + R], trained registers first.
    """

    norms: np.ndarray
    attention: np.ndarray
    register_norms: np.ndarray
    register_attention: np.ndarray


@dataclass(frozen=True)
class View:
    """One image through one model: numbers at the last block, curves over all, and the maps.

    Attributes:
        max_patch_norm: largest patch norm at the last block's output.
        median_patch_norm: median patch norm there.
        outlier_patches: patches above the threshold at the outlier layer.
        max_patch_attention: largest CLS attention to a patch, mean of the heads, last block, 0..1.
        register_attention: CLS attention to all registers together, last block, 0..1 (0 without any).
        register_norm: largest register norm at the last block, None without registers.
        curves: the same at every block.
        maps: the arrays behind the pictures.
    """

    max_patch_norm: float
    median_patch_norm: float
    outlier_patches: int
    max_patch_attention: float
    register_attention: float
    register_norm: float | None
    curves: Curves
    maps: Maps = field(repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the numbers and curves as plain JSON values."""
        names = (
            "max_patch_norm",
            "median_patch_norm",
            "outlier_patches",
            "max_patch_attention",
            "register_attention",
            "register_norm",
        )
        return {**{name: getattr(self, name) for name in names}, "curves": vars(self.curves)}


@dataclass(frozen=True)
class ImageComparison:
    """One image before and after.

    Attributes:
        image: its name.
        outlier_layer: block at whose output outliers were counted.
        outlier_threshold: norm above which a patch counted, in both runs.
        before: the bare model.
        after: the wrapped model.
        pixels: what the model was given, uint8 [H, W, 3].
    """

    image: str
    outlier_layer: int
    outlier_threshold: float
    before: View
    after: View
    pixels: np.ndarray = field(repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return one entry of ``compare.json``."""
        return {
            "image": self.image,
            "outlier_layer": self.outlier_layer,
            "outlier_threshold": self.outlier_threshold,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
        }


def compare(
    backbone: Backbone,
    neurons: RegisterNeurons,
    images: Tensor | Iterable[Any],
    *,
    names: Sequence[str] | None = None,
    num_registers: int = 1,
    threshold: Threshold | None = None,
    outlier_layer: int | None = None,
    batch_size: int = 8,
    progress: bool = False,
) -> Iterator[ImageComparison]:
    """Yield a comparison of each image, bare against wrapped with ``num_registers`` test-time registers.

    Args:
        backbone: the bare backbone.
        neurons: its register neurons (an empty set compares with the blank token).
        images: a tensor [N, 3, H, W], or an iterable of PIL images or tensors [3, H, W].
        names: a name for each image; None: "image 0", ...
        num_registers: R >= 0.
        threshold: for outliers; None: the rule the neurons were found with, else ``"auto"``.
        outlier_layer: where outliers are counted; None: where the neurons' were, else the penultimate.
        batch_size: images a pass.
        progress: show a progress bar with an estimate.

    Raises:
        NeuronsError: the neurons belong to another backbone.
        ModelError: the model has no CLS token.
        OptionError: a value is outside its range, or there are fewer names than images.
    """
    source = neurons.provenance
    rule: Any = threshold if threshold is not None else source.threshold or "auto"
    wanted = outlier_layer if outlier_layer is not None else source.outlier_layer
    layer = backbone.layer(-2 if wanted is None else wanted, "outlier_layer")
    wrap = TestTimeRegisters(backbone, neurons, num_registers=num_registers)
    done = 0
    with progress_bar("comparing", count(images), show=progress) as advance:
        for batch in batches(backbone, images, batch_size):
            bare = record(backbone, batch, attention=True)
            with wrap:
                wrapped = record(backbone, batch, attention=True)
            limits = outlier_threshold(bare.layout.select(bare.norms[layer], "patches"), rule)
            pictures = _pixels(backbone, batch)
            for item in range(batch.shape[0]):
                limit = float(limits[item])
                yield ImageComparison(
                    image=_name(names, done),
                    outlier_layer=layer,
                    outlier_threshold=limit,
                    before=_view(bare, item, layer, limit),
                    after=_view(wrapped, item, layer, limit),
                    pixels=pictures[item],
                )
                done += 1
            advance(batch.shape[0])


def _name(names: Sequence[str] | None, index: int) -> str:
    if names is None:
        return f"image {index}"
    if index >= len(names):
        raise OptionError(f"{len(names)} names were given for more images; give one name an image")
    return names[index]


def _view(passed: Record, item: int, layer: int, limit: float) -> View:
    layout = passed.layout
    norms = passed.norms[:, item].cpu()
    attention = passed.cls_attention[:, item].mean(dim=1).cpu()
    patch_norms, patch_attention = (layout.select(x, "patches") for x in (norms, attention))
    registers = slice(layout.cls, layout.prefix + layout.test_time)
    register_norms, register_attention = norms[:, registers], attention[:, registers]
    has_registers = register_norms.shape[1] > 0
    curves = Curves(
        max_patch_norm=_floats(patch_norms.amax(dim=1)),
        median_patch_norm=_floats(patch_norms.median(dim=1).values),
        max_patch_attention=_floats(patch_attention.amax(dim=1)),
        register_attention=_floats(register_attention.sum(dim=1)),
        register_norm=_floats(register_norms.amax(dim=1)) if has_registers else None,
    )
    return View(
        max_patch_norm=curves.max_patch_norm[-1],
        median_patch_norm=curves.median_patch_norm[-1],
        outlier_patches=int((patch_norms[layer] > limit).sum()),
        max_patch_attention=curves.max_patch_attention[-1],
        register_attention=curves.register_attention[-1],
        register_norm=curves.register_norm[-1] if curves.register_norm else None,
        curves=curves,
        maps=Maps(
            norms=layout.to_grid(patch_norms[-1], dim=0).numpy(),
            attention=layout.to_grid(patch_attention[-1], dim=0).numpy(),
            register_norms=register_norms[-1].numpy(),
            register_attention=register_attention[-1].numpy(),
        ),
    )


def _floats(values: Tensor) -> tuple[float, ...]:
    return tuple(values.tolist())


def _pixels(backbone: Backbone, batch: Tensor) -> np.ndarray:
    """Return what the model was given as uint8 [B, H, W, 3], its normalisation undone where it is known."""
    images = batch.float().cpu()
    if backbone.normalisation is not None:
        mean, deviation = backbone.normalisation
        images = images * deviation[:, None, None] + mean[:, None, None]
    else:
        low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
        images = (images - low) / (high - low).clamp(min=1e-12)
    return (255 * images.clamp(0, 1)).round().byte().permute(0, 2, 3, 1).numpy()
