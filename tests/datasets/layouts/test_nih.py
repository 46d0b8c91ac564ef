from __future__ import annotations

import pytest

from tests.tools.made_sets import draw, write_rows
from ttr.datasets.registry import SPLITS, Box, open_dataset
from ttr.errors import DataError

HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
FINDINGS = ("No Finding", "Effusion", "Effusion|Mass", "Mass")


@pytest.fixture
def root(tmp_path):
    names = [f"{patient:08d}_{visit:03d}.png" for patient in range(20) for visit in range(2)]
    for number, name in enumerate(names):
        draw(tmp_path / f"images_{1 + number % 2:03d}/images/{name}", number)
    rows = [(name, FINDINGS[n % 4], 0, int(name[:8]), 60, "M", "PA") for n, name in enumerate(names)]
    write_rows(tmp_path / "Data_Entry_2017_v2020.csv", HEADER, rows)
    (tmp_path / "train_val_list.txt").write_text("\n".join(names[:32]) + "\n")
    (tmp_path / "test_list.txt").write_text("\n".join(names[32:]))
    boxes = [(names[33], "Effusion", 1.5, 2, 3, 2.5, "", "", "")]
    write_rows(tmp_path / "BBox_List_2017.csv", "Image Index,Finding Label,Bbox [x,y,w,h],,,", boxes)
    return tmp_path


def test_images_with_one_finding_are_kept_and_the_others_counted(root):
    found = open_dataset("nih", root)
    assert found.classes == ("Effusion", "Mass", "No Finding")
    assert len(found.items) == 30
    assert found.notes == (
        "10 images with several findings, none or uncertain ones left out; choose one: --finding NAME",
    )
    groups = {split: {item.group for item in found.select(split)} for split in SPLITS}
    assert groups["test"] == {"16", "17", "18", "19"}
    assert not groups["train"] & groups["val"]
    item = next(item for item in found.items if item.boxes)
    assert item.boxes == (Box("Effusion", 1.5, 2, 4.5, 4.5),)
    assert item.name == "images_002/images/00000016_001.png"
    assert found.open(item).size == (8, 6)


def test_one_finding_is_told_from_the_rest(root):
    found = open_dataset("nih", root, finding="effusion")
    assert found.classes == ("Effusion", "no Effusion")
    assert sum(item.label == "Effusion" for item in found.items) == 20
    with pytest.raises(
        DataError, match=r"has no finding 'Efusion' \(did you mean Effusion\?\); needed one of"
    ):
        open_dataset("nih", root, finding="Efusion")
    with pytest.raises(DataError, match="dataset aptos has one label an image, and no finding to choose"):
        open_dataset("aptos", root, finding="Effusion")


def test_what_is_missing_or_wrong_is_named(root):
    write_rows(
        root / "BBox_List_2017.csv", "Image Index,Finding Label,Bbox [x,y,w,h]", [("a", "Mass", 1, 2, 0, 3)]
    )
    with pytest.raises(DataError, match="BBox_List_2017.csv: the box 1, 2, 0, 3 of a is none"):
        open_dataset("nih", root)
    (root / "test_list.txt").write_text("")
    (root / "BBox_List_2017.csv").unlink()
    with pytest.raises(
        DataError, match="00000016_000.png is in neither train_val_list.txt nor test_list.txt"
    ):
        open_dataset("nih", root)
    (root / "test_list.txt").unlink()
    with pytest.raises(
        DataError, match=r"NIH ChestX-ray14: test_list.txt is missing in .*; needed Data_Entry"
    ):
        open_dataset("nih", root)
