"""Artifacts as a file: images in; a few kilobytes out, with what was planted, how, and what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ttr.backbones.base import Backbone
from ttr.backbones.phantoms.artifacts import save_artifacts, weights_digest
from ttr.studies.plant.planting import Planted, plant_artifacts
from ttr.studies.plant.settings import PlantingSettings
from ttr.studies.plant.truth import summary
from ttr.version import __version__


def write_artifacts(
    backbone: Backbone,
    images: Iterable[Any],
    out: Path,
    *,
    image_set: str,
    settings: PlantingSettings,
    progress: bool = False,
) -> Planted:
    """Search artifacts, hold them to their bounds, and write the file ``out``.

    Args:
        backbone: the pretrained model; it stays as it is.
        images: about a hundred, some with a flat background and some without.
        out: the file.
        image_set: what the images are, in words, for the file.
        settings: of the search.
        progress: show a progress bar.

    Raises:
        TTRError: as :func:`ttr.studies.plant.planting.plant_artifacts` does, or the file cannot be written.
    """
    planted = plant_artifacts(backbone, images, settings=settings, progress=progress)
    made = {
        "ttr": __version__,
        "backbone": backbone.name,
        "weights": str(backbone.weights),
        "image_size": list(backbone.image_size),
        "images": image_set,
        "settings": asdict(settings),
        # Of what no image tells, JSON has no number.
        "measured": {
            name: None if math.isnan(value) else round(value, 4)
            for name, value in summary(planted.truth).items()
        },
    }
    save_artifacts(out, planted.artifacts, weights_digest(backbone.model), made)
    return planted
