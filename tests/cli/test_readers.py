"""``ttr readers`` as it is typed: prepared with codes, rehearsed with simulated readers, or refused."""

from __future__ import annotations

import json

import pytest

import ttr
from ttr.datasets.registry import phantom_images
from ttr.studies.reading.folder import KEY, read_study


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    root = tmp_path_factory.mktemp("given")
    for drawn in phantom_images(3):
        drawn.image.save(root / f"{drawn.name}.png")
    names = sorted(path.name for path in root.glob("*.png"))
    (root / "truth.csv").write_text("image,truth\n" + "".join(f"{name},no\n" for name in names))
    ttr.RegisterNeurons.from_pairs(ttr.load("phantom", image_size=64).planted).save(root / "neurons.json")
    return root, names


def words(given, out, *more):
    root, names = given
    model = ("--backbone", "phantom", "--image-size", 64, "--neurons", root / "neurons.json", "--quiet")
    return ("readers", "prepare", *model, "--out", out, *more, *(root / name for name in names))


def test_a_study_is_prepared_and_rehearsed(run, given, tmp_path):
    out = tmp_path / "study"
    more = ("--truth", given[0] / "truth.csv", "--readers", 2, "--seed", 5, "--conditions", "none,after")
    status, said, _ = run(*words(given, out, *more))
    assert status == 0
    study = read_study(out)
    assert (study.key.seed, study.settings.conditions) == (5, ("none", "after"))
    assert all(f"  {reader}  {code}" in said for reader, code in study.key.codes.items())
    assert f"3 images; each reader sees {len(study.of_reader('R1'))} in 2 sessions" in said
    analysis = ("readers", "analyse", out, "--out", tmp_path / "analysis")
    status, said, _ = run(*analysis, "--simulate", "none", "--margin", 10)
    assert status == 0
    assert "2 readers, 3 images, right answers: " in said
    assert json.loads((tmp_path / "analysis" / "manifest.json").read_text())["settings"]["margin"] == 0.1
    for refused, word in (
        (analysis, "nobody has answered"),
        ((*analysis, "--simulate", "lefty"), "biases lefty"),
        ((*analysis[:2], tmp_path, *analysis[3:]), "not a prepared study"),
        (("readers", "serve", tmp_path), "not a prepared study"),
    ):
        status, _, error = run(*refused)
        assert status == 2
        assert error.count("\n") == 1
        assert word in error


def test_with_anonymous_not_even_the_key_names_an_image(run, given, tmp_path):
    status, _, _ = run(*words(given, tmp_path / "study", "--anonymous", "--no-pairs"))
    assert status == 0
    text = (tmp_path / "study" / KEY).read_text()
    assert '"image 1"' in text
    assert not any(name in text for name in given[1])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--answers", "yes"), "needed 2 to 6"),
        (("--conditions", "after,later"), "none, before, after"),
        (("--catch", "2"), "a share from 0 to 0.5"),
        (("--truth", "nowhere.csv"), "cannot be read as CSV"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_a_model_is_loaded(
    run, given, tmp_path, monkeypatch, more, said
):
    monkeypatch.setattr("ttr.backbones.load", None)
    status, _, error = run(*words(given, tmp_path / "study", *more))
    assert status == 2
    assert said in error
    assert not (tmp_path / "study").exists()
