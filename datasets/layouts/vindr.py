"""VinDr-CXR: chest radiographs as DICOM, read by radiologists, with boxes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from ttr.datasets.base import Card, Dataset, Item, Split, inside, make_dataset, require
from ttr.datasets.layouts.boxes import boxes_of
from ttr.datasets.splits import complete
from ttr.datasets.tables.columns import says_yes
from ttr.datasets.tables.files import read_table
from ttr.datasets.tables.findings import Reported, one_label

CARD = Card(
    title="VinDr-CXR",
    source="Nguyen et al. 2022, VinDr-CXR: an open dataset of chest X-rays with radiologist's annotations, "
    "Scientific Data 9; PhysioNet, version 1",
    licence="PhysioNet Credentialed Health Data License 1.5: credentialed access; nothing of it may be "
    "shared",
    classes="22 local and 6 global findings, several an image, No finding among them: --finding NAME tells "
    "one from the rest, else the images with exactly one are kept",
    metric="auc_ovr of one finding; balanced_accuracy, as findings are rare",
    problems="three radiologists read each training image, and what two of them say counts here; five "
    "agreed on each test image; a training box is one reader's; no patient identifiers, so that a patient "
    "may be in training and test",
    how_to_get="PhysioNet offers it after training and a signed agreement.",
    layout="annotations/image_labels_train.csv, image_labels_test.csv, annotations_train.csv and "
    "annotations_test.csv, and the images in train/<id>.dicom and test/<id>.dicom",
)
SPLITS: tuple[Split, ...] = ("train", "test")
BOXES = ("image_id", "class_name", "x_min", "y_min", "x_max", "y_max")
#: Readers of a training image who must agree.
AGREEING = 2


def vindr(root: Path, *, seed: int = 42, finding: str | None = None) -> Dataset:
    """Read VinDr-CXR with its published test split; validation is a fifth of training.

    Raises:
        DataError: files are missing or not as described, or no such finding.
    """
    reported = [row for split in SPLITS for row in _reported(root, split)]
    known = {each for row in reported for each in row.present}
    items, notes = one_label(reported, finding, known, CARD.title)
    return make_dataset("vindr-cxr", complete(items, seed=seed), CARD, notes=notes)


def _reported(root: Path, split: Split) -> Iterator[Reported]:
    path = require(root, (f"annotations/image_labels_{split}.csv", f"image_labels_{split}.csv"), CARD)
    table = read_table(path, ("image_id",))
    columns = [name for name in table.columns if name not in ("image_id", "rad_id")]
    readers: Counter[str] = Counter()
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for row in table.to_dict("records"):
        readers[row["image_id"]] += 1
        votes[row["image_id"]].update(says_yes(row, columns))
    boxes = _boxes(path.with_name(f"annotations_{split}.csv"))
    for image, count in readers.items():
        name = f"{split}/{image}.dicom"
        item = Item(name, "", split, inside(root, name, path.name), boxes=boxes.get(image, ()))
        needed = min(AGREEING, count)
        said = [column for column in columns if votes[image][column] >= needed]
        yield Reported(item, tuple(table.attrs["called"][column] for column in said))


def _boxes(path: Path) -> dict:
    if not path.is_file():
        return {}
    return boxes_of(read_table(path, BOXES).to_dict("records"), BOXES, path.name, sides=False)
