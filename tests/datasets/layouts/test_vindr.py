from __future__ import annotations

import numpy as np
import pytest

from tests.tools.made_sets import write_rows
from ttr.datasets.registry import Box, Outlines, open_dataset
from ttr.errors import DataError

HEADER = "image_id,rad_id,Nodule/Mass,Pleural effusion,No finding"


@pytest.fixture
def root(tmp_path):
    train = [
        (f"i{n:02d}", f"R{reader}", *(int(n % 3 == place and reader < 3) for place in range(3)))
        for n in range(30)
        for reader in (1, 2, 3)
    ]
    # One reader alone saw it, and two a second finding.
    train[0:3] = [("i00", "R1", 1, 0, 0), ("i00", "R2", 0, 1, 0), ("i00", "R3", 0, 1, 0)]
    write_rows(tmp_path / "annotations/image_labels_train.csv", HEADER, train)
    test = [(f"t{n}", *(int(n % 3 == place) for place in range(3))) for n in range(6)]
    write_rows(tmp_path / "annotations/image_labels_test.csv", HEADER.replace("rad_id,", ""), test)
    boxes = [("i00", "R2", "Pleural effusion", 1, 2, 3, 4), ("i01", "R1", "No finding", "", "", "", "")]
    header = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max"
    write_rows(tmp_path / "annotations/annotations_train.csv", header, boxes)
    boxes = [("t1", "Nodule/Mass", 0, 0, 1, 1), ("t1", "Pleural effusion", 1, 2, 3, 4)]
    write_rows(tmp_path / "annotations/annotations_test.csv", header.replace("rad_id,", ""), boxes)
    return tmp_path


def test_of_an_images_boxes_those_of_its_finding_are_its_outline(root):
    outlines = Outlines.of(open_dataset("vindr-cxr", root, finding="Pleural effusion"))
    (item,) = outlines.required("test")
    assert (item.label, item.name) == ("Pleural effusion", "test/t1.dicom")
    assert np.argwhere(outlines.draw(item, (8, 6))).tolist() == [[2, 1], [2, 2], [3, 1], [3, 2]]


def test_what_two_of_three_readers_say_counts(root):
    found = open_dataset("vindr-cxr", root)
    assert found.classes == ("No finding", "Nodule/Mass", "Pleural effusion")
    item = next(item for item in found.items if item.name == "train/i00.dicom")
    assert item.label == "Pleural effusion"
    assert item.boxes == (Box("Pleural effusion", 1, 2, 3, 4),)
    assert [len(found.select(split)) for split in ("train", "val", "test")] == [24, 6, 6]
    assert open_dataset("vindr-cxr", root, finding="nodule/mass").classes == ("Nodule/Mass", "no Nodule/Mass")


def test_labels_that_are_missing_are_named(root):
    (root / "annotations/image_labels_test.csv").unlink()
    with pytest.raises(
        DataError, match="VinDr-CXR: annotations/image_labels_test.csv or image_labels_test.csv"
    ):
        open_dataset("vindr-cxr", root)
