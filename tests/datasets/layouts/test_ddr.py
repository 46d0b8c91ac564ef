from __future__ import annotations

import pytest

from tests.tools.made_sets import draw, outline
from ttr.datasets.registry import Outlines, open_dataset, require_classes
from ttr.errors import DataError


def test_grades_keep_their_splits_and_what_cannot_be_graded_is_left_out(tmp_path):
    part = tmp_path / "DDR-dataset/DR_grading"
    for split in ("train", "valid", "test"):
        lines = [f"{split} {n:02d}.jpg {(0, 1, 5)[n % 3]}" for n in range(9)]
        for line in lines:
            draw(part / split / line.rpartition(" ")[0])
        (part / f"{split}.txt").write_text("\n".join([*lines, ""]))
    found = open_dataset("ddr", tmp_path)
    assert (found.classes, found.ordinal) == (("0", "1"), True)
    assert [len(found.select(split)) for split in ("train", "val", "test")] == [6, 6, 6]
    assert found.notes == ("9 images that cannot be graded left out",)
    assert found.open(found.items[0]).size == (8, 6)
    (part / "test.txt").write_text("a.jpg\n")
    with pytest.raises(DataError, match=r"test.txt, line 1: 'a.jpg'; needed an image and its grade"):
        open_dataset("ddr", tmp_path)


def test_outlines_lie_in_another_folder_for_validation(tmp_path):
    part = tmp_path / "lesion_segmentation"
    for split, folder in (("train", "label"), ("valid", "segmentation label"), ("test", "label")):
        draw(part / split / "image/a.jpg")
        outline(part / split / folder / "EX/a.tif", (0, 0, 2, 2))
    found = open_dataset("ddr-lesions", tmp_path)
    with pytest.raises(DataError, match="or ttr localize with methods that ask for no class"):
        require_classes(found)
    for split in ("train", "val", "test"):
        (item,) = found.masked(split)
        assert (found.masks.open(item) == found.masks.classes.index("hard exudates")).sum() == 4
        assert Outlines.of(found).draw(item, (8, 6)).sum() == 4
