from __future__ import annotations

import numpy as np
import pytest

from tests.tools.made_sets import draw, outline, write_rows
from ttr.datasets.registry import Outlines, open_dataset
from ttr.errors import DataError, ImageError

PARTS = {"a. Training Set": "a. IDRiD_Disease Grading_Training Labels.csv"}
PARTS |= {"b. Testing Set": "b. IDRiD_Disease Grading_Testing Labels.csv"}


def test_grades_are_ordinal_and_keep_their_test_set(tmp_path):
    part = tmp_path / "B. Disease Grading/B. Disease Grading"
    for folder, table in PARTS.items():
        rows = [(f"IDRiD_{n:03d}", n % 3, 0, "") for n in range(1, 16)]
        write_rows(
            part / "2. Groundtruths" / table, "Image name,Retinopathy grade,Risk of macular edema ,", rows
        )
        for name, *_ in rows:
            draw(part / "1. Original Images" / folder / f"{name}.jpg")
    found = open_dataset("idrid", tmp_path)
    assert found.ordinal
    assert found.classes == ("0", "1", "2")
    assert [len(found.select(split)) for split in ("train", "val", "test")] == [12, 3, 15]
    assert found.open(found.select("test")[0]).size == (8, 6)
    with pytest.raises(DataError, match=r"\(IDRiD\): A. Segmentation is missing"):
        open_dataset("idrid-lesions", tmp_path)


def test_lesions_become_one_mask_and_the_smaller_kind_counts(tmp_path):
    part = tmp_path / "A. Segmentation"
    truth = part / "2. All Segmentation Groundtruths"
    for folder in PARTS:
        for n in range(6):
            draw(part / "1. Original Images" / folder / f"IDRiD_{n:02d}.jpg")
        outline(truth / folder / "2. Haemorrhages/IDRiD_01_HE.tif", (0, 0, 4, 4))
        outline(truth / folder / "1. Microaneurysms/IDRiD_01_MA.tif", (3, 3, 5, 5))
    found = open_dataset("idrid-lesions", tmp_path)
    assert found.masks.classes[3:] == ("haemorrhages", "microaneurysms")
    (item,) = found.masked("test")
    mask = found.masks.open(item)
    assert mask.shape == (6, 8)
    assert np.bincount(mask.ravel()).tolist() == [48 - 19, 0, 0, 15, 4]
    assert Outlines.of(found).items("test") == (item,)
    assert Outlines.of(found).draw(item, (8, 6)).sum() == 19
    with pytest.raises(ImageError, match="has no mask; leave it out"):
        found.masks.open(next(each for each in found.items if not found.masks.covers(each)))
    outline(truth / "b. Testing Set/1. Microaneurysms/IDRiD_01_MA.tif", (0, 0, 1, 1), (9, 9))
    with pytest.raises(ImageError, match="IDRiD_01.jpg have several sizes"):
        found.masks.open(item)
