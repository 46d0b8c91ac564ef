"""Every loader's layout with everything that goes wrong in practice, one fault at a time.

A missing file, a truncated image, a picture of the test split in training too, a label that is in the test
split alone, a path that climbs out of the root.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tools.dicom_files import write
from ttr.datasets.audit import audit
from ttr.datasets.registry import open_dataset
from ttr.errors import DataError

PIXELS = np.random.default_rng(0)


def draw(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = PIXELS.integers(0, 256, (24, 24), dtype=np.uint8)
    if path.suffix != ".dcm":
        Image.fromarray(pixels).save(path)
        return
    write(path, pixels)


@dataclass(frozen=True)
class Layout:
    """A set on disk: ``image(split, label, number)`` is a file, ``table(split)`` names it as ``row`` says."""

    name: str
    image: Callable[[str, str, int], str]
    labels: tuple[str, str, str]
    table: Callable[[str], str] | None = None
    header: str = ""
    row: Callable[[str, str, str], str] = lambda path, label, split: f"{Path(path).name},{label}"
    splits: tuple[str, ...] = ("train", "test")
    outside: str = "../../../outside.png"


REPACKED = {"train": "train_1.csv", "val": "valid.csv", "test": "test.csv"}
LAYOUTS = {
    "orthonet": Layout(
        "orthonet",
        lambda split, label, n: f"orthonet data/orthonet data/{split} {label} {n}.png",
        ("hip A", "knee B", "knee C"),
        lambda split: f"{split}.csv",
        "filenames,labels",
    ),
    "pacemaker": Layout(
        "pacemaker",
        lambda split, label, n: f"{split.title()}/{label}/{n}.jpg",
        ("BIO - Actros_Philos", "MDT - Adapta", "STJ - New"),
    ),
    "aptos-competition": Layout(
        "aptos",
        lambda split, label, n: f"train_images/{label}{n}.png",
        ("0", "1", "2"),
        lambda split: "train.csv",
        "id_code,diagnosis",
        lambda path, label, split: f"{str(Path(path).with_suffix('')).removeprefix('train_images/')},{label}",
        ("train",),
        "../../outside",
    ),
    "aptos-repacked": Layout(
        "aptos",
        lambda split, label, n: f"{split}_images/{split}_images/{split}{label}{n}.png",
        ("0", "1", "2"),
        lambda split: REPACKED[split],
        "id_code,diagnosis",
        lambda path, label, split: f"{Path(path).stem},{label}",
        ("train", "val", "test"),
        "../../../outside",
    ),
    "folder": Layout(
        "folder", lambda split, label, n: f"{split}/{label}/{n}.png", ("normal", "pneumonia", "other")
    ),
    "dicom": Layout(
        "folder", lambda split, label, n: f"{split}/{label}/{n}.dcm", ("normal", "pneumonia", "other")
    ),
    "csv": Layout(
        "csv",
        lambda split, label, n: f"images/{split}-{label}-{n}.png",
        ("normal", "pneumonia", "other"),
        lambda split: "table.csv",
        "path,label,split",
        lambda path, label, split: f"{path},{label},{split}",
        outside="../outside.png",
    ),
}


class Written:
    """A layout written below a root, 30 images a split, with rows that can be added."""

    def __init__(self, layout: Layout, root: Path) -> None:
        self.layout, self.root = layout, root
        self.rows: dict[str, list[str]] = {}
        for split in layout.splits:
            for number in range(30):
                self.add(split, layout.labels[number % 2], number)

    def add(self, split: str, label: str, number: int) -> Path:
        relative = self.layout.image(split, label, number)
        draw(self.root / relative)
        self.list(relative, label, split)
        return self.root / relative

    def list(self, relative: str, label: str, split: str) -> None:
        if self.layout.table:
            rows = self.rows.setdefault(self.layout.table(split), [self.layout.header])
            rows.append(self.layout.row(relative, label, split))

    def climb(self) -> None:
        for rows in self.rows.values():
            rows[-1] = ",".join([self.layout.outside, *rows[-1].split(",")[1:]])

    def open(self):
        for name, rows in self.rows.items():
            (self.root / name).write_text("\n".join(rows))
        return open_dataset(
            self.layout.name, self.root / "table.csv" if self.layout.name == "csv" else self.root
        )


@pytest.fixture
def written(request, tmp_path):
    return Written(LAYOUTS[request.param], tmp_path / "set")


def layouts(*, having: Callable[[Layout], object] = lambda layout: True):
    """Run a test on the layouts that can have its fault at all."""
    names = [name for name, layout in LAYOUTS.items() if having(layout)]
    return pytest.mark.parametrize("written", names, indirect=True)


@layouts()
def test_nothing_is_wrong_at_first(written):
    dataset = written.open()
    assert dataset.classes == written.layout.labels[:2]
    assert audit(dataset, workers=1).causes == ()


@layouts()
@pytest.mark.parametrize("fault", ["missing", "truncated"])
def test_a_missing_and_a_truncated_image_are_named(written, fault):
    before = written.open()
    item = before.select("test")[1]
    if fault == "truncated":
        item.path.write_bytes(item.path.read_bytes()[:-300])
    else:
        item.path.unlink()
    after = written.open()
    if fault == "missing" and not written.layout.table:
        assert len(after.items) == len(before.items) - 1, "a folder lists what is there"
        return
    found = audit(after, workers=1)
    assert [entry.items[0].name for entry in found.findings["unreadable"]] == [item.name]
    assert "unreadable" in found.causes


@layouts()
def test_a_picture_of_the_test_split_in_training_is_found(written):
    dataset = written.open()
    one, other = dataset.select("train")[0], dataset.select("test")[0]
    other.path.write_bytes(one.path.read_bytes())
    found = audit(written.open(), workers=1)
    assert {item.name for item in found.findings["test-duplicate"][0].items} == {one.name, other.name}
    assert "test-duplicate" in found.causes


@layouts(having=lambda layout: "test" in layout.splits)
def test_a_label_that_training_never_saw_is_refused_by_name(written):
    strange = written.layout.labels[2]
    written.add("test", strange, 99)
    with pytest.raises(DataError, match=f"label '{strange}' of .*99.* is in the test split and never"):
        written.open()


@layouts(having=lambda layout: layout.table)
def test_a_path_that_climbs_out_is_refused(written):
    draw(written.root.parent / "outside.png")
    written.climb()
    with pytest.raises(DataError, match="leads out of"):
        written.open()
