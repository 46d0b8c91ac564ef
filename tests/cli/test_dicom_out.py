"""``ttr compare --dicom``: from the command line to the folder, and what it refuses."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import ttr
from tests.tools.dicom_files import PATIENT, write


@pytest.fixture
def given(tmp_path):
    ids = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.1"}
    image = write(tmp_path / "a.dcm", np.arange(4096, dtype=np.uint16).reshape(64, 64), **ids)
    ttr.RegisterNeurons.from_pairs(ttr.load("phantom", image_size=64).planted).save(tmp_path / "n.json")
    model = ("--backbone", "phantom", "--image-size", 64, "--neurons", tmp_path / "n.json", "--quiet")
    return ("compare", *model, "--out", tmp_path / "out", image)


@pytest.mark.parametrize("kept", [False, True])
def test_compare_writes_dicom(kept, given, run, tmp_path):
    pytest.importorskip("highdicom", reason="writing DICOM needs the extra [dicom]")
    import pydicom

    status, out, err = run(*given, "--dicom", *(["--keep-patient"] if kept else []))
    assert status == 0, err
    files = list((tmp_path / "out" / "dicom").glob("*.dcm"))
    assert len(files) == 9
    ids = {str(pydicom.dcmread(path).PatientID or "") for path in files}
    assert ids == {PATIENT["PatientID"] if kept else ""}
    assert "in DICOM: " in out


def test_without_the_option_there_is_none(given, run, tmp_path):
    assert run(*given)[0] == 0
    assert not (tmp_path / "out" / "dicom").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--keep-patient"], "--keep-patient is for --dicom, which was not given"),
        (["--dicom", "--anonymous"], "leave --dicom or --anonymous out"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, says, given, run, tmp_path):
    status, _, err = run(*given, *options)
    assert status == 2
    assert says in " ".join(err.split())
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named(given, run, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    status, _, err = run(*given, "--dicom")
    assert status == 2
    assert "--dicom needs the package highdicom, which is not installed; run: pip install '.[dicom]'" in err
    assert not (tmp_path / "out").exists()


def test_a_picture_that_is_no_dicom_is_refused(given, run, tmp_path):
    pytest.importorskip("highdicom", reason="writing DICOM needs the extra [dicom]")
    from PIL import Image

    Image.new("RGB", (64, 64)).save(tmp_path / "b.png")
    status, _, err = run(*given, tmp_path / "b.png", "--dicom")
    assert status == 2
    assert "b.png is no DICOM file; needed one to write results in DICOM" in err
