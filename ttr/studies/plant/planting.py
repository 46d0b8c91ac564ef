"""Search artifacts for a pretrained model, plant them in a copy of it, and hold them to their bounds."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.backbones.families import as_backbone
from ttr.backbones.phantoms.artifacts import Artifacts, layer_scale, plant_into, plantable
from ttr.backbones.phantoms.weights import BlockWeights
from ttr.errors import ImageError, ModelError, OptionError
from ttr.forward.batches import batches
from ttr.progress import progress_bar
from ttr.studies.plant.collected import Collected, collect
from ttr.studies.plant.direction import LATE, find_direction
from ttr.studies.plant.settings import Bounds, PlantingSettings
from ttr.studies.plant.trigger import fit_trigger, flat_corners
from ttr.studies.plant.truth import Truth, check_bounds, show_truth


@dataclass(frozen=True, eq=False)
class Planted:
    """A planted model and its truth.

    Attributes:
        backbone: a copy of the model with artifacts.
        artifacts: what was planted.
        truth: of each image, what the original, the planted and the wrapped model show.
    """

    backbone: Backbone
    artifacts: Artifacts
    truth: list[Truth]


def plant_artifacts(
    model: torch.nn.Module | Backbone,
    images: Tensor | Iterable[Any],
    *,
    settings: PlantingSettings | None = None,
    bounds: Bounds | None = None,
    progress: bool = False,
) -> Planted:
    """Plant artifacts in a copy of a pretrained model, which stays itself otherwise and so is the truth.

    Args:
        model: a timm VisionTransformer or an open_clip ViT with trained weights; it stays as it is.
        images: about a hundred, some with a flat background and some without: a tensor [N, 3, H, W], or an
            iterable of PIL images or tensors [3, H, W].
        settings: of the search; None: the default.
        bounds: that must hold on these images; None: the default.
        progress: show a progress bar.

    Raises:
        ModelError: a family that cannot be planted in, or artifacts that miss a bound, which is named.
        ImageError: no images, or none with a flat corner.
        OptionError: a value is outside its range.
    """
    original = as_backbone(model)
    batch = torch.cat([*batches(original, images, 64)] or [torch.empty(0, 3, 1, 1)])
    if not len(batch):
        raise ImageError("no images were given; needed about a hundred, some with a flat background")
    artifacts = find_artifacts(original, batch, settings or PlantingSettings(), progress=progress)
    planted = plant_into(copy.deepcopy(original), artifacts)
    truth = show_truth(original, planted, batch)
    check_bounds(truth, bounds or Bounds())
    return Planted(planted, artifacts, truth)


def find_artifacts(
    backbone: Backbone, images: Tensor, settings: PlantingSettings, *, progress: bool = False
) -> Artifacts:
    """Search what to plant, on images [B, 3, H, W] that went through the model's preprocessing.

    Raises:
        ModelError: a family that cannot be planted in, a block too late, or another image size or type.
        ImageError: no image has a flat corner.
        OptionError: more neurons than there are.
    """
    layer = backbone.num_layers // 2 if settings.layer is None else backbone.layer(settings.layer)
    _check(backbone, images, layer, settings.count)
    block = plantable(backbone, layer)
    steps = sum(phase.steps for phase in settings.phases)
    with progress_bar("planting", steps, show=progress) as advance:
        seen = collect(backbone, images, layer)
        patches = backbone.layout_for(images).select(seen.mlp_input, "patches")
        fires = flat_corners(backbone, images, settings.flat, settings.corner)
        trigger, offset = fit_trigger(patches, fires)
        strength = settings.strength * seen.norm
        direction = find_direction(
            backbone,
            seen,
            layer,
            strength,
            settings.phases,
            batch_size=settings.batch_size,
            seed=settings.seed,
            advance=advance,
        )
    neurons = least_used(block, seen, settings.count)
    return Artifacts(
        layer=layer,
        neurons=tuple(neurons),
        trigger=trigger,
        direction=direction.cpu(),
        spoken=seen.mean[neurons],
        offset=offset,
        strength=strength,
    )


def _check(backbone: Backbone, images: Tensor, layer: int, count: int) -> None:
    if layer + LATE >= backbone.num_layers:
        raise ModelError(
            f"layer={layer} of {backbone.num_layers}; needed {LATE} blocks or more behind the planted one"
        )
    if backbone.dtype != torch.float32:
        raise ModelError(f"{backbone.name} is in {backbone.dtype}; needed torch.float32 to search in")
    if images.shape[-2:] != backbone.image_size:
        height, width = images.shape[-2:]
        needed = "x".join(map(str, backbone.image_size))
        raise ModelError(
            f"got images of {height}x{width} px; needed {needed} px: load the model with image_size="
        )
    if count > backbone.num_neurons:
        raise OptionError(f"count={count}; needed 1..{backbone.num_neurons} neurons")


@torch.no_grad()
def least_used(block: BlockWeights, seen: Collected, count: int) -> list[int]:
    """Return the neurons whose SD, times the norm of what they write, is smallest: least first."""
    written = (block.down.weight * layer_scale(block)[:, None]).norm(dim=0)
    return (seen.sd * written.cpu()).argsort()[:count].tolist()
