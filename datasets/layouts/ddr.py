"""DDR: fundus photographs from Chinese hospitals, graded, and some with the outlines of lesions."""

from __future__ import annotations

from pathlib import Path

from ttr.datasets.base import Card, Dataset, Item, Split, inside, make_dataset, read_text, require
from ttr.datasets.layouts.lesions import LesionMasks, outlined
from ttr.datasets.splits import complete
from ttr.errors import DataError
from ttr.wording import counted

CARD = Card(
    title="DDR, diabetic retinopathy",
    source="Li et al. 2019, Diagnostic assessment of deep learning algorithms for diabetic retinopathy "
    "screening, Information Sciences 501",
    licence="as its authors state, for research; not redistributable here",
    classes="'ddr': grades 0 to 4, ordinal; 'ddr-lesions': pixels of microaneurysms, haemorrhages, hard and "
    "soft exudates, and background",
    metric="quadratic weighted kappa (qwk) for the grades; mIoU for lesions, which cover few pixels",
    problems="images of grade 5, which cannot be graded, are left out; no patient identifiers, so both eyes "
    "of one patient may be in training and test; many cameras; where lesions overlap the smaller kind counts",
    how_to_get="Its authors offer it for download.",
    layout="DR_grading/train.txt, valid.txt, test.txt ('<image> <grade>' a line) and "
    "DR_grading/<split>/*.jpg for ddr; lesion_segmentation/<split>/image/*.jpg and label/ (for valid: "
    "'segmentation label/') EX, HE, MA, SE for ddr-lesions",
)
SPLITS: dict[Split, str] = {"train": "train", "val": "valid", "test": "test"}
#: What is marked as not to be graded.
UNGRADABLE = "5"


def ddr(root: Path, *, seed: int = 42) -> Dataset:
    """Read the grades with their published splits.

    Raises:
        DataError: files are missing, or a line is not as described.
    """
    part = require(root, ("DR_grading", "DDR-dataset/DR_grading"), CARD)
    items = []
    for split, name in SPLITS.items():
        lines = read_text(require(part, f"{name}.txt", CARD)).splitlines()
        for number, line in enumerate(lines, start=1):
            image, _, grade = line.strip().rpartition(" ")
            if line.strip() and not (image and grade.isdigit()):
                raise DataError(f"{name}.txt, line {number}: {line!r}; needed an image and its grade")
            if image:
                path = inside(part / name, image.strip(), f"{name}.txt")
                items.append(Item(path.relative_to(root).as_posix(), grade, split, path))
    kept = [item for item in items if item.label != UNGRADABLE]
    left_out = len(items) - len(kept)
    notes = (f"{counted(left_out, 'image')} that cannot be graded left out",) if left_out else ()
    return make_dataset("ddr", complete(kept, seed=seed), CARD, ordinal=True, notes=notes)


def ddr_lesions(root: Path, *, seed: int = 42) -> Dataset:
    """Read the outlined images with their published splits.

    Raises:
        DataError: files are missing.
    """
    part = require(root, ("lesion_segmentation", "DDR-dataset/lesion_segmentation"), CARD)
    folders = {split: require(part, f"{name}/image", CARD) for split, name in SPLITS.items()}
    items = outlined(root, folders)
    return make_dataset("ddr-lesions", complete(items, seed=seed), CARD, masks=LesionMasks(_mask).masks())


def _mask(item: Item, kind: str) -> Path:
    assert item.path is not None
    split = item.path.parents[1]
    folder = split / "segmentation label"
    return (folder if folder.is_dir() else split / "label") / kind / f"{item.path.stem}.tif"
