"""What is shown and taken away of an attribution: its numbers, what they are of, and no word that acts."""

from __future__ import annotations

import io
import json
import zipfile
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

from tests.tools.views import views
from ttr.apps.html import attribution as html
from ttr.apps.html.panels import Look
from ttr.apps.image.attribution import LOADED, METHODS, TEXT, Attribution
from ttr.apps.image.intake import sample
from ttr.apps.image.outline import box_on, localised
from ttr.apps.image.workbench import Workbench
from ttr.errors import ImageError

SAID = "for “<script>alert(1)</script>”"


@pytest.fixture(scope="module")
def case(phantom):
    workbench = Workbench({"phantom": lambda: phantom})
    return workbench.case(sample("chest"), workbench.choose("phantom"))


@pytest.fixture(scope="module")
def found():
    maps = [np.random.default_rng(seed).random((14, 14)).astype(np.float32) for seed in (1, 2)]
    return Attribution("chefer", SAID, tuple(maps))


@pytest.fixture(scope="module")
def outline(case):
    return box_on(case.picture, [100, 100, 300, 250])


@pytest.fixture(scope="module")
def scored(phantom, found, outline):
    return localised(phantom, outline, found.maps)


def test_maps_and_numbers_stand_beside_chance_on_one_scale_and_escape_words(case, found, outline, scored):
    shown = html.maps(case, found, outline)
    (drawn,) = views(shown)
    assert drawn["scale"]["shared"]["high"] == max(float(each.max()) for each in found.maps)
    for own, values, came in zip(drawn["scale"]["own"], found.maps, drawn["maps"], strict=True):
        assert own["high"] == float(values.max())
        np.testing.assert_array_equal(came, values)
    assert shown.count('class="ttr-outline"') == 2
    assert 'class="ttr-outline"' not in html.maps(case, found, None)
    table = html.numbers(case, found, outline, scored, "A phantom.")
    for metric, values in scored.values.items():
        for value in (*values, scored.random[metric], scored.centre[metric]):
            assert f"<td>{value:.3f}</td>" in table
    assert "without an interval" in table
    assert "A phantom." in table
    assert html.sentence(scored) in table
    assert all("<script>" not in each for each in (shown, table))


def test_without_an_outline_or_with_one_that_says_nothing_it_is_said(case, found, outline):
    assert html.NO_OUTLINE in html.numbers(case, found, None, None)
    assert "the outline is too small." in html.numbers(
        case, found, outline, ImageError("the outline is too small")
    )


def test_what_is_not_in_force_says_why():
    said = {method: html.in_force(method, LOADED, [LOADED, TEXT]) for method in METHODS}
    assert "no answer can be chosen" in said["attention"]
    assert "neither can be chosen" in said["rollout"]
    assert "no block, head or words can be chosen" in said["chefer"]
    assert "no block, head or class can be chosen" in html.in_force("legrad", TEXT, [TEXT])
    assert "--head FILE" in html.in_force("attention", None, [])
    assert "--head FILE" not in said["attention"]


def test_the_rim_is_bright_beside_dark_and_lies_within(outline):
    uri = html.rim_uri(outline)
    pixels = np.asarray(Image.open(io.BytesIO(b64decode(uri.partition(",")[2]))))
    shown = pixels[..., 3] > 0
    rows, columns = np.nonzero(shown)
    left, top, right, bottom = outline.corners
    scale = shown.shape[1] / outline.inside.shape[1]
    ends = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert ends == pytest.approx([scale * each for each in (left, top, right, bottom)], abs=1.01)
    middle = (round(scale * (top + bottom) / 2), round(scale * (left + right) / 2))
    assert not shown[middle]
    assert {tuple(each) for each in pixels[shown][:, :3].tolist()} == {(0, 255, 255), (0, 0, 0)}


def test_what_is_taken_away_holds_maps_numbers_and_outline(case, found, outline, scored):
    archive = zipfile.ZipFile(io.BytesIO(html.zip_of(case, found, outline, scored, Look(0))))
    numbers = json.loads(archive.read("numbers.json"))
    assert numbers["localisation"]["auprc"]["after"] == scored.values["auprc"][1]
    assert numbers["localisation"]["auprc"]["random_map"] == scored.random["auprc"]
    assert numbers["outline"]["corners"] == [100, 100, 300, 250]
    assert numbers["images"] == 1
    np.testing.assert_allclose(numbers["maps"]["before"], found.maps[0])
    for name in ("image", "chefer-before", "chefer-after", "outline"):
        assert Image.open(archive.open(f"{name}.png")).size == case.picture.image.size
    np.testing.assert_array_equal(np.asarray(Image.open(archive.open("outline.png"))) > 0, outline.inside)
    assert "Not a medical device" in archive.read("README.txt").decode()
    without = zipfile.ZipFile(io.BytesIO(html.zip_of(case, found, None, None, Look(0))))
    assert "outline.png" not in without.namelist()
    assert json.loads(without.read("numbers.json"))["localisation"] == {}
