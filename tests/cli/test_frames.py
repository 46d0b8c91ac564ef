"""Commands take the frames of a DICOM file, all in their order or one, and say what they could not follow."""

from __future__ import annotations

import json

import numpy as np
import pytest

import ttr
from tests.tools.dicom_files import write

SMALL = ("--image-size", 64, "--quiet")


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A folder with a film of three frames, the neurons of two phantoms beside it."""
    folder = tmp_path_factory.mktemp("films")
    frames = np.random.default_rng(0).integers(0, 4095, (3, 70, 70)).astype(np.uint16)
    write(folder / "in" / "film.dcm", frames, WindowCenter=-9000, WindowWidth=80)
    for name in ("phantom", "phantom-clip"):
        planted = ttr.load(name, image_size=64).planted
        ttr.RegisterNeurons.from_pairs(planted).save(folder / f"{name}.json")
    return folder


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["in"], ["film.dcm#1", "film.dcm#2", "film.dcm#3"]),
        (["in", "--frame", 2, "--anonymous"], ["image 1"]),
    ],
)
def test_compare_takes_frames(given, names, films, run, tmp_path, monkeypatch):
    monkeypatch.chdir(films)
    words = ("compare", "--backbone", "phantom", *SMALL, "--neurons", films / "phantom.json")
    status, _, err = run(*words, "--out", tmp_path / "out", *given)
    assert status == 0, err
    entries = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [entry["image"] for entry in entries] == names
    for name in names:
        assert f"ttr: {name}: The file's window -9000 / 80 shows all of its values" in err
    assert ("film.dcm" in err) != ("--anonymous" in given)


def test_zero_shot_takes_a_frame(films, run):
    words = ("zero-shot", "--backbone", "phantom-clip", *SMALL, "--neurons", films / "phantom-clip.json")
    status, out, _ = run(*words, "--classes", "a,b", films / "in", "--frame", 3)
    assert status == 0
    assert "film.dcm#3" in out
    assert "film.dcm#1" not in out


def test_a_frame_that_is_not_there_is_refused_by_name(films, run, tmp_path):
    words = ("compare", "--backbone", "phantom", *SMALL, "--neurons", films / "phantom.json")
    status, _, err = run(*words, "--out", tmp_path / "out", films / "in" / "film.dcm#4")
    assert status == 2
    assert "film.dcm#4 is no frame of its file, which holds 3; needed 1 to 3" in err
    assert not (tmp_path / "out").exists()


def test_detect_looks_at_every_frame(films, run, tmp_path):
    words = ("detect", "--backbone", "phantom", *SMALL, "--cache", tmp_path, "--out", tmp_path / "n.json")
    status, out, _ = run(*words, "--images", films / "in")
    assert status == 0
    assert "3 of 3 images (100 %) have outlier patches" in out
