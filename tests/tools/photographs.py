"""Photographs that come with packages which the tests need anyway: nothing is fetched or kept here."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from ttr.datasets.registry import open_image, sample_paths

#: By package: scikit-learn's (CC BY), matplotlib's (public domain), and those of gradio's examples.
PLACES = {
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
    "gradio": (
        "media_assets/images/lion.jpg",
        "media_assets/images/tower.jpg",
        "media_assets/images/cheetah1.jpg",
    ),
}


def photographs() -> dict[str, Image.Image]:
    """Return them by name, with ttr's own samples (a fundus photograph, a chest radiograph), as RGB."""
    found = dict(sample_paths())
    for package, files in PLACES.items():
        spec = find_spec(package)
        home = Path(str(spec.origin)).parent if spec else Path()
        found |= {path.stem: path for file in files if (path := home / file).is_file()}
    return {name: open_image(path).convert("RGB") for name, path in found.items()}


def crops(image: Image.Image, count: int, seed: int) -> list[Image.Image]:
    """Draw square crops, each with 55 to 75 % of the shorter side."""
    draw = np.random.default_rng(seed)
    cut = []
    for _ in range(count):
        side = int(min(image.size) * draw.uniform(0.55, 0.75))
        left, top = (int(draw.integers(0, length - side + 1)) for length in image.size)
        cut.append(image.crop((left, top, left + side, top + side)))
    return cut
