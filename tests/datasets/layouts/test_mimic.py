from __future__ import annotations

import gzip

import pytest

from tests.tools.made_sets import draw, write_rows
from ttr.datasets.registry import SPLITS, open_dataset
from ttr.errors import DataError

VALUES = (("", "1.0", ""), ("1.0", "", ""), ("", "1.0", "1.0"), ("", "-1.0", "1.0"), ("0.0", "1.0", "0.0"))


@pytest.fixture
def root(tmp_path):
    splits, labels = [], []
    for n in range(30):
        subject, study, image = 10000000 + n // 3, 50000000 + n, f"{n:08x}-a"
        draw(tmp_path / f"files/p10/p{subject}/s{study}/{image}.jpg", n)
        splits.append((image, study, subject, ("train", "validate", "test")[n // 3 % 3]))
        if n != 29:
            labels.append((subject, study, *VALUES[n % 5]))
    for name, header, rows in (
        ("split", "dicom_id,study_id,subject_id,split", splits),
        ("chexpert", "subject_id,study_id,No Finding,Edema,Pleural Effusion", labels),
    ):
        path = write_rows(tmp_path / "t.csv", header, rows)
        (tmp_path / f"mimic-cxr-2.0.0-{name}.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    return tmp_path


def test_packed_tables_are_joined_by_study_and_uncertain_ones_left_out(root):
    found = open_dataset("mimic-cxr", root, finding="Edema")
    assert found.classes == ("Edema", "no Edema")
    assert len(found.items) == 23
    assert found.notes[1:] == (
        "6 images left out where it is uncertain",
        "1 image of studies without labels left out",
    )
    assert [len({item.group for item in found.select(split)}) for split in SPLITS] == [4, 3, 3]
    assert found.open(found.items[0]).size == (8, 6)
    single = open_dataset("mimic-cxr", root)
    assert {item.label for item in single.items} == {"No Finding", "Edema"}
    assert len(single.items) == 17


def test_a_value_that_means_nothing_is_refused(root):
    write_rows(
        root / "mimic-cxr-2.0.0-chexpert.csv", "subject_id,study_id,Edema", [(10000000, 50000000, "maybe")]
    )
    with pytest.raises(DataError, match="study 50000000 says 'maybe'; needed 1, 0, -1 or blank"):
        open_dataset("mimic-cxr", root)
