"""What the browser is sent of a case: all that the pointer tells, on stated scales, and nothing that runs."""

from __future__ import annotations

import base64
from dataclasses import replace

import matplotlib
import numpy as np
import pytest

from tests.tools.views import pictures, pixels, views
from ttr.apps.html import panels
from ttr.apps.html.panels import Look
from ttr.apps.image.case import Answer
from ttr.apps.image.intake import sample
from ttr.apps.image.workbench import Workbench


@pytest.fixture(scope="module")
def workbench(phantom):
    return Workbench({"phantom": lambda: phantom})


@pytest.fixture(scope="module")
def case(workbench):
    return workbench.case(sample("chest"), workbench.choose("phantom"))


def test_the_pointer_and_the_loupe_have_the_models_own_numbers(case):
    (shown,) = views(panels.attention(case, Look(3, 1)))
    runs = case.inspection.runs
    for side, run in enumerate(runs):
        np.testing.assert_array_equal(shown["maps"][side], run.attention_map(3, 1))
        np.testing.assert_array_equal(shown["beside"][0]["maps"][side], run.norm_map(3))
        by_head = shown["heads"]["maps"][side]
        np.testing.assert_array_equal(by_head, np.stack([run.attention_map(3, head) for head in range(3)]))
    assert [shown["name"], shown["beside"][0]["name"], shown["heads"]["query"]] == [
        "attention",
        "norm",
        "CLS",
    ]
    frame = case.inspection.frame
    assert shown["frame"] == [frame.left, frame.top, frame.right, frame.bottom]
    high = max(float(run.attention_map(3, 1).max()) for run in runs)
    assert (shown["scale"]["shared"]["low"], shown["scale"]["shared"]["high"]) == (0, high)
    table = np.frombuffer(base64.b64decode(shown["scale"]["lut"]), np.uint8).reshape(256, 3)
    expected = matplotlib.colormaps["inferno"](np.arange(256))[:, :3]
    np.testing.assert_array_equal(table, (255 * expected).round())


def test_a_token_that_only_one_run_has_leaves_its_side_empty(case):
    html = panels.attention(case, Look(5, None, "test-time register 1"))
    (shown,) = views(html)
    assert shown["maps"][0] is None
    assert shown["heads"]["maps"][0] is None
    assert shown["maps"][1] is not None
    assert html.count("the bare model has no such token") == 1


def test_a_picture_comes_once_and_views_name_it(case):
    (picture,) = pictures(panels.picture(case))
    for html in (panels.attention(case, Look(0)), panels.norms(case, Look(0)), panels.colours(case, Look(0))):
        (shown,) = views(html)
        assert shown["picture"] == picture["id"]
        assert pictures(html) == []
        assert len(html) < 60_000
    np.testing.assert_array_equal(pixels(picture["uri"]), np.asarray(case.picture.image)[..., 0])


def test_a_name_from_a_file_stays_text(case):
    hostile = replace(case.picture, name="'><script>alert(1)</script>.png")
    html = panels.attention(replace(case, picture=hostile), Look(0)) + panels.picture(
        replace(case, picture=hostile)
    )
    assert "<script" not in html
    assert len(views(html)) == len(pictures(html)) == 1


def test_the_verdict_is_one_sentence_of_the_cases_numbers(case):
    before, after = case.inspection.comparison.before, case.inspection.comparison.after
    said = panels.verdict(case)
    assert f"{before.outlier_patches} outlier patches before and none after" in said
    assert f"(faithfulness {before.faithfulness:.2f} and {after.faithfulness:.2f})" in said
    rows = (("a", 0.7, 0.2), ("b", 0.3, 0.8))
    answered = replace(case, answer=Answer("head", 0, rows, 6))
    assert "changes from a to b" in panels.verdict(answered)
    assert "2 of 6 classes" in panels.numbers(answered)
    assert "of 2 classes" not in panels.numbers(replace(case, answer=Answer("head", 0, rows, 2)))
    stays = replace(case, answer=Answer("head", 0, (("a", 0.7, 0.6), ("b", 0.3, 0.4)), 2))
    assert "stays: a" in panels.verdict(stays)
