from __future__ import annotations

import pytest

from tests.tools.made_sets import write_rows
from ttr.datasets.registry import Box, Outlines, open_dataset
from ttr.errors import DataError

CLASSES = ("Normal", "No Lung Opacity / Not Normal", "Lung Opacity")


@pytest.fixture
def root(tmp_path):
    (tmp_path / "stage_2_train_images").mkdir()
    rows = [(f"p{n:02d}", *((1.0, 2, 3, 4, 1) if n % 3 == 2 else ("", "", "", "", 0))) for n in range(30)]
    rows.append(("p02", 5, 6, 1, 1, 1))
    write_rows(tmp_path / "stage_2_train_labels.csv", "patientId,x,y,width,height,Target", rows)
    classes = [(f"p{n:02d}", CLASSES[n % 3]) for n in range(30)]
    write_rows(tmp_path / "stage_2_detailed_class_info.csv", "patientId,class", classes)
    return tmp_path


def test_an_image_of_two_boxes_is_one_image(root):
    found = open_dataset("rsna", root)
    assert found.classes == tuple(sorted(CLASSES))
    assert len(found.items) == 30
    item = next(item for item in found.items if item.name == "stage_2_train_images/p02.dcm")
    assert item.boxes == (Box("Lung Opacity", 1, 2, 4, 6), Box("Lung Opacity", 5, 6, 6, 7))
    assert {item.group for item in found.items} == {None}, "its patientId is of an image"
    assert Outlines.of(found).draw(item, (9, 9)).sum() == 3 * 4 + 1
    (root / "stage_2_detailed_class_info.csv").unlink()
    assert {item.label for item in Outlines.of(open_dataset("rsna", root)).items("train")} == {"1"}
    assert open_dataset("rsna", root).classes == ("0", "1")


def test_an_image_without_a_class_is_named(root):
    write_rows(root / "stage_2_detailed_class_info.csv", "patientId,class", [("p00", "Normal")])
    with pytest.raises(
        DataError, match="stage_2_detailed_class_info.csv lacks p01 of stage_2_train_labels.csv"
    ):
        open_dataset("rsna", root)
