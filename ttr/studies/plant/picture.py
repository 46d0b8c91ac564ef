"""The main figure: original, planted, after, on images of which the original's map is the truth.

``python -m ttr.studies.plant.picture OUT.png [PX]`` draws it of phantom-dinov2.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ttr.backbones.base import Backbone
from ttr.backbones.loading import load
from ttr.backbones.phantoms.hybrid import HYBRIDS, source_of
from ttr.drawing.maps import png_of
from ttr.drawing.restored import Restored, draw_restored
from ttr.files import write_bytes
from ttr.forward.preprocessing import pixels_of
from ttr.studies.plant.images import held_out_images
from ttr.studies.plant.truth import show_truth

if TYPE_CHECKING:
    from PIL.Image import Image

#: Dots an inch: for a README, where a photograph's bytes count.
DPI = 100
SHOWN = ("fundus", "chest", "astronaut", "horse")


def restored(original: Backbone, planted: Backbone, images: Mapping[str, Image]) -> list[Restored]:
    """Return a row of the figure for each named image.

    Raises:
        ModelError: the two backbones are no pair of one model without and with artifacts.
    """
    seen = torch.stack([original.preprocess(image) for image in images.values()])
    return [
        Restored(
            name=name,
            pixels=pixels,
            original=truth.original,
            planted=truth.planted,
            after=truth.after,
            planted_cosine=truth.planted_map,
            after_cosine=truth.after_map,
        )
        for name, pixels, truth in zip(
            images, pixels_of(original, seen), show_truth(original, planted, seen), strict=True
        )
    ]


def write_picture(figure: Any, out: Path) -> None:
    """Write a figure as PNG.

    Raises:
        OutputError: the file cannot be written.
    """
    write_bytes(out, png_of(figure).getvalue())


def main(name: str, out: Path, image_size: int | None) -> None:
    """Draw the figure of the phantom ``name``, on the images that no fit has seen."""
    original = load(HYBRIDS[name].base, weights=source_of(name), image_size=image_size)
    planted = load(name, image_size=image_size)
    images = {key: image for key, image in held_out_images().items() if key in SHOWN}
    write_picture(draw_restored(restored(original, planted, images)), out)


if __name__ == "__main__":
    main("phantom-dinov2", Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
