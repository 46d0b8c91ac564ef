"""The medical study's three sets, tiny, in the layouts that their authors give them out in, and a model."""

from __future__ import annotations

from pathlib import Path

import ttr
from ttr.datasets.registry import phantom_images

SIZE = 64
NAMES = ("orthonet", "pacemaker", "aptos")


def write_medical_sets(root: Path) -> dict[str, Path]:
    """Write OrthoNet, Pacemaker and APTOS, two classes of phantom images each; return {name: root}."""
    images = iter(phantom_images(72, classes=2, size=SIZE))

    def write(path: Path) -> int:
        path.parent.mkdir(parents=True, exist_ok=True)
        phantom = next(images)
        phantom.image.save(path)
        return phantom.label

    for split, count in (("train", 16), ("test", 8)):
        rows = ["filenames,labels"]
        for number in range(count):
            name = f"{split}{number}.png"
            rows.append(f"{name},{write(root / 'orthonet/orthonet data/orthonet data' / name)}")
        (root / "orthonet" / f"{split}.csv").write_text("\n".join(rows))
        for number in range(count):
            write(root / f"pacemaker/{split.title()}/BIO - {'AB'[number % 2]}" / f"{number}.png")
    rows = ["id_code,diagnosis", *(f"{n},{n % 2}" for n in range(24))]
    for number in range(24):
        write(root / "aptos/train_images" / f"{number}.png")
    (root / "aptos" / "train.csv").write_text("\n".join(rows))
    return {name: root / name for name in NAMES}


def load(name: str) -> ttr.Backbone:
    """Return a phantom in place of any backbone."""
    return ttr.load("phantom", image_size=SIZE)
