"""A prepared study: every picture drawn beforehand, nothing on it that tells, and a key that is held."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import ttr
from ttr.datasets.registry import in_memory, phantom_images
from ttr.errors import DataError, OutputError
from ttr.evaluate.placement import placement
from ttr.run import Run
from ttr.studies.reading.answers import opened
from ttr.studies.reading.design import PERTURBED, plan
from ttr.studies.reading.folder import KEY, PICTURE, read_study
from ttr.studies.reading.pictures import PERTURBATIONS, laid_over, perturbed, shown
from ttr.studies.reading.prepare import read_truth, write_reading
from ttr.studies.reading.settings import CONDITIONS, ReadingSettings

NAMES = [f"Doe^Jane-{number}.png" for number in range(6)]
SETTINGS = ReadingSettings(readers=2, catch=0.5, repeats=0.2)


@pytest.fixture(scope="module")
def images():
    return {name: drawn.image for name, drawn in zip(NAMES, phantom_images(6), strict=True)}


@pytest.fixture(scope="module")
def phantom_small():
    backbone = ttr.load("phantom", image_size=64)
    return backbone, ttr.RegisterNeurons.from_pairs(backbone.planted)


@pytest.fixture(scope="module")
def prepared(images, phantom_small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "study"
    truth = {name: ("yes", "no")[place % 2] for place, name in enumerate(NAMES)}
    write_reading(*phantom_small, in_memory(images), folder, SETTINGS, truth=truth)
    return read_study(folder)


def test_names_of_images_stand_in_the_key_alone(prepared):
    for path in prepared.folder.iterdir():
        assert (b"Doe^Jane" in path.read_bytes()) == (path.name == KEY)
    assert [case.name for case in prepared.key.cases] == NAMES
    assert [case.truth for case in prepared.key.cases] == ["yes", "no"] * 3
    assert prepared.with_truth
    assert (prepared.folder / KEY).stat().st_mode & 0o077 == 0


def test_orders_follow_from_nothing_that_stands_outside_the_key(prepared):
    def orders(seed):
        return [replace(trial, trial="") for trial in plan(len(NAMES), prepared.settings, seed, lambda: "")]

    sealed = [replace(trial, trial="") for trial in prepared.key.trials]
    assert orders(prepared.key.seed) == sealed
    assert orders(Run().seed) != sealed
    assert "seed" not in json.loads((prepared.folder / "manifest.json").read_text())


def test_pictures_are_called_something_random_and_hold_pixels_alone(prepared):
    files = [file for case in prepared.key.cases for file in case.pictures.values()]
    assert len(set(files)) == len(files) == 6 * 3 + 3
    for file in files:
        assert PICTURE.fullmatch(file)
        content = (prepared.folder / file).read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            assert (image.mode, image.info) == ("RGB", {})


def test_maps_are_those_of_a_comparison_and_wrong_maps_are_others(prepared, images, phantom_small):
    backbone, neurons = phantom_small
    compared = list(ttr.compare(backbone, neurons, list(images.values())))
    for case, image, found in zip(prepared.key.cases, images.values(), compared, strict=True):
        pixels = shown(image)
        placed = placement(backbone, (image.height, image.width))
        drawn = {
            name: np.asarray(Image.open(prepared.folder / case.pictures[name])) for name in case.pictures
        }
        np.testing.assert_array_equal(drawn["none"], pixels)
        for name in ("before", "after"):
            expected = laid_over(pixels, getattr(found, name).maps.attention, placed)
            np.testing.assert_array_equal(drawn[name], expected)
        assert set(case.pictures) - set(CONDITIONS) == ({PERTURBED} if case.perturbed else set())
        if case.perturbed:
            assert (drawn[PERTURBED] != drawn["after"]).any()
    kinds = [case.perturbed for case in prepared.key.cases if case.perturbed]
    assert sorted(kinds) == sorted(PERTURBATIONS)


def test_a_map_keeps_the_picture_where_it_is_zero(phantom_small):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    values = np.zeros((4, 4), np.float32)
    placed = placement(phantom_small[0], (64, 64))
    np.testing.assert_array_equal(laid_over(pixels, values, placed), pixels)
    values[1, 2] = 1
    changed = (laid_over(pixels, values, placed) != pixels).any(axis=2)
    assert changed[16:32, 32:48].mean() > 0.9
    assert not changed[:, :32].any()


def test_perturbations_keep_a_maps_values_and_move_them():
    own, other = np.arange(16.0).reshape(4, 4), np.ones((4, 4))
    random = np.random.default_rng(0)
    assert perturbed("other", own, other, random) is other
    for kind in ("shifted", "random"):
        found = perturbed(kind, own, other, random)
        assert sorted(found.ravel()) == sorted(own.ravel())
        assert (found != own).mean() > 0.5


def test_a_key_that_was_changed_is_refused(prepared, tmp_path):
    copy = tmp_path / "study"
    copy.mkdir()
    for path in prepared.folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    key = json.loads((copy / KEY).read_text())
    key["trials"][0]["condition"] = "none"
    (copy / KEY).write_text(json.dumps(key))
    with pytest.raises(DataError, match="not the one that the study was prepared with"):
        read_study(copy)
    (copy / "manifest.json").write_text("[]")
    with pytest.raises(DataError, match="no manifest of ttr readers prepare"):
        read_study(copy)
    with pytest.raises(DataError, match="not a prepared study"):
        read_study(tmp_path)


def test_a_study_that_readers_have_begun_is_replaced_by_nothing(images, phantom_small, tmp_path):
    few = in_memory({name: images[name] for name in NAMES[:2]})
    folder, settings = tmp_path / "study", ReadingSettings(readers=1, catch=0)
    for _ in range(2):
        write_reading(*phantom_small, few, folder, settings)
    with opened(folder):
        pass
    with pytest.raises(OutputError, match="not a result of ttr"):
        write_reading(*phantom_small, few, folder, settings)


def test_truths_are_asked_of_every_image_and_are_answers(images, phantom_small, tmp_path):
    few = in_memory({name: images[name] for name in NAMES[:2]})
    for truth, said in (
        ({NAMES[0]: "yes"}, "no row for"),
        (dict.fromkeys(NAMES, "perhaps"), "'perhaps'"),
    ):
        with pytest.raises(DataError, match=said):
            write_reading(*phantom_small, few, tmp_path / "study", SETTINGS, truth=truth)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,label\na,yes\n", "no columns image and truth"),
        ("image,truth\na,yes\na,no\n", "twice"),
        ("", "no columns"),
        ('image,truth\n"a', "cannot be read as CSV"),
    ],
)
def test_a_table_that_holds_no_truths_is_refused(tmp_path, text, said):
    path = tmp_path / "truth.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_truth(path)
    path.write_text("\ufeffimage,truth,more\na.png, yes ,1\n")
    assert read_truth(path) == {"a.png": "yes"}
