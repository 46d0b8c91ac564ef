"""Pacemaker: cropped chest radiographs of implanted cardiac devices, 45 models of five manufacturers."""

from __future__ import annotations

from pathlib import Path

from ttr.datasets.base import Card, Dataset, make_dataset, require
from ttr.datasets.image_folder import FRAME_GROUPS, items_below
from ttr.datasets.splits import complete

CARD = Card(
    title="Pacemaker",
    source="Howard et al. 2019, Cardiac rhythm device identification using neural networks, "
    "JACC: Clinical Electrophysiology",
    licence="as its distributor states; not redistributable here",
    classes="45 device models; 'pacemaker-manufacturer' tells the 5 manufacturers apart",
    metric="accuracy (top1); Howard et al. report 96.4 % (93.1 to 98.5) for the model group and 99.6 % "
    "for the manufacturer, with a fine-tuned network",
    problems="225 test images, 5 a class: one image is 0.44 points; no patient identifiers",
    how_to_get="Its authors offer it for download; give the folder that holds Train and Test as the root.",
    layout="Train/<class>/* and Test/<class>/*, a class like 'BIO - Actros_Philos'",
)


def pacemaker(root: Path, *, seed: int = 42) -> Dataset:
    """Read the device models: the published test set; validation is a stratified fifth of training.

    Raises:
        DataError: files are missing, or a test class is not in training.
    """
    return make_dataset("pacemaker", _items(root, seed), CARD, groups=FRAME_GROUPS)


def pacemaker_manufacturer(root: Path, *, seed: int = 42) -> Dataset:
    """Read the same images with the manufacturer as label: what stands before ' - ' in a class's name."""
    from dataclasses import replace

    items = [replace(item, label=item.label.split(" - ")[0].strip()) for item in _items(root, seed)]
    return make_dataset("pacemaker-manufacturer", items, CARD, groups=FRAME_GROUPS)


def _items(root: Path, seed: int) -> list:
    items = [
        *items_below(require(root, "Train", CARD), root, "train"),
        *items_below(require(root, "Test", CARD), root, "test"),
    ]
    return complete(items, seed=seed)
