from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.tools.made_sets import draw, packed_runs, write_rows
from ttr.datasets.layouts.chexlocalize import FINDINGS, Segmentations
from ttr.datasets.registry import Outlines, open_dataset
from ttr.errors import DataError, ImageError

SPOT = np.zeros((6, 8), dtype=bool)
SPOT[1:3, 4:7] = True


@pytest.fixture
def root(tmp_path):
    """Twenty patients a part; every second shows Edema, every fourth Pneumothorax as well, outlined."""
    for part, theirs in (("val", "CheXpert-v1.0/valid"), ("test", "test")):
        rows, outlines = [], {}
        for number in range(20):
            place = f"patient{number:03d}_{part}/study1/view1_frontal"
            present = {"Edema": number % 2 == 0, "Pneumothorax": number % 4 == 0}
            rows.append((f"{theirs}/{place}.jpg", *(f"{float(present.get(n, False))}" for n in FINDINGS)))
            draw(tmp_path / f"CheXpert/{part}/{place}.jpg")
            outlines[place.replace("/", "_")] = {
                n: packed_runs(SPOT) for n, there in present.items() if there
            }
        write_rows(tmp_path / f"CheXpert/{part}_labels.csv", ",".join(("Path", *FINDINGS)), rows)
        path = tmp_path / f"CheXlocalize/gt_segmentations_{part}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(outlines))
    return tmp_path


def test_a_finding_has_its_outlines_and_patients_stay_together(root):
    found = open_dataset("chexlocalize", root, finding="pneumothorax")
    assert found.classes == ("Pneumothorax", "no Pneumothorax")
    assert [len(found.select(split)) for split in ("train", "val", "test")] == [16, 4, 20]
    assert {item.group for item in found.items} == {item.name.split("/")[2] for item in found.items}
    outlines = Outlines.of(found)
    assert len(outlines.items("test")) == 5
    item = outlines.items("test")[0]
    assert np.array_equal(outlines.draw(item, found.open(item).size), SPOT)
    with pytest.raises(ImageError, match="has 8 × 6 pixels, and its image 4 × 3"):
        outlines.draw(item, (4, 3))


def test_an_opacity_is_outlined_by_either_of_its_names(root):
    """The labels say Lung Opacity, and the outlines that its authors give out Airspace Opacity."""
    item = open_dataset("chexlocalize", root, finding="Edema").select("test")[0]
    for name in ("Airspace Opacity", "Lung Opacity"):
        held = Segmentations({"patient000_test_study1_view1_frontal": {name: packed_runs(SPOT)}})
        assert held.covers(replace(item, label="Lung Opacity"))
        assert np.array_equal(held.open(replace(item, label="Lung Opacity")), SPOT)
        assert not held.covers(replace(item, label="no Lung Opacity"))


def test_without_a_finding_images_with_exactly_one_are_kept(root):
    found = open_dataset("chexlocalize", root, finding=None)
    assert {item.label for item in found.items} == {"Edema"}
    assert found.notes[0].startswith("30 images with several findings, none or uncertain ones left out")


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', "[" * 100_000])
def test_damaged_outlines_are_refused_by_name(root, text):
    (root / "CheXlocalize/gt_segmentations_test.json").write_text(text)
    with pytest.raises(DataError, match=r"gt_segmentations_test.json is (damaged|not as described)"):
        open_dataset("chexlocalize", root, finding="Edema")


def test_what_is_missing_is_named(root):
    (root / "CheXlocalize/gt_segmentations_val.json").unlink()
    with pytest.raises(
        DataError, match=r"CheXlocalize/gt_segmentations_val.json or gt_segmentations_val.json"
    ):
        open_dataset("chexlocalize", root, finding="Edema")
