from __future__ import annotations

import numpy as np
import pytest

from tests.tools.made_sets import draw, outline, write_rows
from ttr.datasets.registry import SPLITS, Outlines, open_dataset
from ttr.errors import DataError


def one_hot(names, classes=3, start=0):
    return [
        (name, *(f"{float((n + start) % classes == c)}" for c in range(classes)))
        for n, name in enumerate(names)
    ]


def test_2018_has_three_splits_and_lesions_as_groups(tmp_path):
    for number, part in enumerate(("Training", "Validation", "Test")):
        name = f"ISIC2018_Task3_{part}"
        images = [f"ISIC_{number}{n:05d}" for n in range(9)]
        table = write_rows(
            tmp_path / f"{name}_GroundTruth/{name}_GroundTruth.csv", "image,MEL,NV,BCC", one_hot(images)
        )
        for image in images:
            draw(tmp_path / f"{name}_Input/{image}.jpg")
        if part == "Training":
            rows = [(image, f"HAM_{n // 2}", "consensus") for n, image in enumerate(images)]
            header = "image,lesion_id,diagnosis_confirm_type"
            write_rows(tmp_path / "ISIC2018_Task3_Training_LesionGroupings.csv", header, rows)
    found = open_dataset("isic", tmp_path)
    assert found.classes == ("BCC", "MEL", "NV")
    assert [len(found.select(split)) for split in SPLITS] == [9, 9, 9]
    assert len({item.group for item in found.select("train")}) == 5
    assert found.open(found.items[0]).size == (8, 6)
    assert found.masks is None
    folder = tmp_path / "HAM10000_segmentations_lesion_tschandl"
    outline(folder / "ISIC_200003_segmentation.png", (2, 1, 5, 4))
    outlines = Outlines.of(open_dataset("isic", tmp_path))
    (item,) = outlines.required("test")
    assert item.name.endswith("ISIC_200003.jpg")
    assert np.argwhere(outlines.draw(item, (8, 6))).tolist() == [[y, x] for y in (1, 2, 3) for x in (2, 3, 4)]
    write_rows(table, "image,MEL,NV,BCC", [("ISIC_200000", 1.0, 1.0, 0.0)])
    with pytest.raises(DataError, match="Test_GroundTruth.csv: ISIC_200000 has 2 diagnoses; needed one"):
        open_dataset("isic", tmp_path)


def test_2019_leaves_the_unknown_class_out(tmp_path):
    for part, header in (
        ("Training", "image,MEL,NV,UNK"),
        ("Test", "image,MEL,NV,UNK,score_weight,validation_weight"),
    ):
        images = [f"ISIC_{part}{n}" for n in range(12)]
        rows = one_hot(images, 2) if part == "Training" else [(*row, 1.0, 0.0) for row in one_hot(images)]
        rows = [(*row, "0.0") for row in rows] if part == "Training" else rows
        write_rows(tmp_path / f"ISIC_2019_{part}_GroundTruth.csv", header, rows)
        (tmp_path / f"ISIC_2019_{part}_Input").mkdir()
    found = open_dataset("isic", tmp_path)
    assert found.classes == ("MEL", "NV")
    assert len(found.select("test")) == 8
    assert found.notes == ("4 images of no trained diagnosis (UNK) left out",)


def test_2020_has_patients(tmp_path):
    rows = [(f"ISIC_{n}", f"IP_{n // 2}", ("benign", "malignant")[n % 3 == 0]) for n in range(60)]
    write_rows(tmp_path / "train.csv", "image_name,patient_id,benign_malignant", rows)
    (tmp_path / "jpeg/train").mkdir(parents=True)
    found = open_dataset("isic", tmp_path)
    assert found.classes == ("benign", "malignant")
    groups = [{item.group for item in found.select(split)} for split in SPLITS]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
