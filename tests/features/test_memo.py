"""What is kept under all that decides it: found again bit for bit, and never where something changed."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from ttr.errors import OutputError
from ttr.features import memo as module
from ttr.features.memo import computed_once, digest_of_all, source_digest

NUMBERS = np.arange(6, dtype=np.float64).reshape(2, 3)
BASE = {"values": {"seed": 1}, "arrays": [NUMBERS], "code": "abc", "libraries": ["numpy"]}


def test_it_is_computed_once_and_comes_back_bit_for_bit(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"x": [0.1 + 0.2, float("nan"), 5e-324, 3], "name": "é"}

    first, again = (computed_once(tmp_path, "d", compute) for _ in range(2))
    assert len(calls) == 1
    assert json.dumps(first) == json.dumps(again)
    assert first["x"][0] == 0.1 + 0.2
    assert math.isnan(first["x"][1])
    assert first["x"][2:] == [5e-324, 3]


@pytest.mark.parametrize("harm", ["cut", "one digit", "another's name", "empty"])
def test_a_damaged_or_misplaced_file_is_computed_again(tmp_path, harm):
    computed_once(tmp_path, "d", lambda: {"p": 0.04})
    path = tmp_path / "d.json"
    whole = path.read_bytes()
    if harm == "another's name":
        computed_once(tmp_path, "e", lambda: {"p": 0.9})
        path.write_bytes((tmp_path / "e.json").read_bytes())
    else:
        changed = {"cut": whole[:-3], "one digit": whole.replace(b"0.04", b"0.05"), "empty": b""}
        path.write_bytes(changed[harm])
    assert path.read_bytes() != whole
    assert computed_once(tmp_path, "d", lambda: {"p": 0.04}) == {"p": 0.04}
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "change",
    [
        {"values": {"seed": 2}},
        {"arrays": [NUMBERS + 1e-16 * (NUMBERS == 0)]},
        {"arrays": [NUMBERS.reshape(3, 2)]},
        {"arrays": [NUMBERS.view(np.int64)]},
        {"arrays": [NUMBERS[:1], NUMBERS[1:]]},
        {"code": "abd"},
        {"libraries": ["numpy", "scipy"]},
    ],
)
def test_whatever_decides_it_is_in_the_digest(change):
    assert digest_of_all(**BASE) == digest_of_all(**{**BASE, "arrays": [NUMBERS.copy()]})
    assert digest_of_all(**{**BASE, **change}) != digest_of_all(**BASE)


def test_another_line_of_code_or_another_library_is_another_digest(tmp_path, monkeypatch):
    (tmp_path / "inference.py").write_text("p = 0.04\n")
    (tmp_path / "tables.py").write_text("p = 0.04\n")
    assert source_digest("ttr.statistics.inference") != source_digest("ttr.features.memo")
    monkeypatch.setattr(module.resources, "files", lambda package: tmp_path)
    before = source_digest("ttr.statistics.inference")
    assert source_digest("ttr.statistics.inference") == before
    assert source_digest("ttr.tables") != before
    (tmp_path / "inference.py").write_text("p = 0.05\n")
    assert source_digest("ttr.statistics.inference") != before
    known = digest_of_all(**BASE)
    monkeypatch.setattr(module.metadata, "version", lambda name: "0")
    assert digest_of_all(**BASE) != known


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        computed_once(tmp_path / "file", "d", dict)
