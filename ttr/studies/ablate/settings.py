"""What an ablation measures, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ttr.checks import integer, names
from ttr.errors import DataError
from ttr.evaluate.head_names import NAMES as HEADS
from ttr.statistics.verdict import MARGIN, check_margin

if TYPE_CHECKING:
    from ttr.datasets.registry import Dataset

TASKS = ("probe", "knn", "correspondence", "segmentation", "oneshot")
#: Patches that the segmentation probe learns from, over all training images.
PATCHES = 8000
PATCHES_AN_IMAGE = 64
#: Whose tokens may stand in for an image's: those of any other patient, or of one of another class.
DONORS = ("any", "other-class")


@dataclass(frozen=True)
class AblationSettings:
    """What an ablation measures; with the seed and the batch size of its run it decides the numbers.

    Attributes:
        tasks: of :data:`TASKS`.
        calibration_images: training images the calibration sees, at most.
        analysis_images: test images that attention, geometry and layers are measured on, at most; 0: none.
        layers: how many blocks are looked into.
        head: of the probe, ``logistic`` or ``linear``.
        margin: of equivalence, a share: what changes by less counts as kept, once that is shown.
        donors: whose tokens shuffle and resample take: ``any`` other patient's (group's; any other image's
            where the set names none), or ``other-class``, one of another class.

    Raises:
        OptionError: a value is outside its range.
    """

    tasks: tuple[str, ...] = TASKS
    calibration_images: int = 5000
    analysis_images: int = 200
    layers: int = 7
    head: str = "logistic"
    margin: float = MARGIN
    donors: str = "any"

    def __post_init__(self) -> None:
        names("tasks", self.tasks, TASKS)
        names("head", (self.head,), HEADS)
        names("donors", (self.donors,), DONORS)
        integer("calibration_images", self.calibration_images, 1)
        integer("analysis_images", self.analysis_images, 0)
        integer("layers", self.layers, 2)
        check_margin(self.margin)


def require(dataset: Dataset, settings: AblationSettings) -> None:
    """Raise DataError unless a set has the splits, masks and classes that the tasks need."""
    needed = ["train", "test"] + (["val"] if "probe" in settings.tasks else [])
    for split in needed:
        if not dataset.select(split):  # type: ignore[arg-type]
            raise DataError(f"{dataset.name} has no {split} images; an ablation needs {', '.join(needed)}")
    if "segmentation" in settings.tasks:
        for split in ("train", "test"):
            if not dataset.masked(split):  # type: ignore[arg-type]
                raise DataError(
                    f"{dataset.name} has no {split} image with a mask; leave segmentation out of --tasks"
                )
    if "knn" in settings.tasks and len(dataset.select("test")) < 2:
        raise DataError(
            f"{dataset.name} has a single test image, without a neighbour; leave knn out of --tasks"
        )
    if len(dataset.classes) < 2 and {"probe", "knn", "oneshot"} & set(settings.tasks):
        raise DataError(
            f"{dataset.name} has a single class; choose tasks of correspondence and segmentation alone"
        )
