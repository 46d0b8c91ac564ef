"""A localisation end to end on phantom lesions, whose answer is known; its tables against their parts."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import ttr
from tests.tools.report_page import held_to_the_design
from ttr.datasets.phantom_lesions import phantom_lesions
from ttr.datasets.registry import Masks
from ttr.errors import DataError, OptionError
from ttr.evaluate.insertion import SHARES, areas, curve_names
from ttr.evaluate.localisation import BOXED, METRICS, relevance_mass
from ttr.registers.arms import PLAIN, arms
from ttr.run import Run
from ttr.statistics.contrasts import contrast, level
from ttr.studies.localize import localisation, tables
from ttr.studies.localize.looking import Looker
from ttr.studies.localize.page import _units
from ttr.studies.localize.sentences import warnings_of
from ttr.studies.localize.settings import LocalisationSettings
from ttr.studies.localize.write import _asked, write_localisation
from ttr.studies.schemas import LOCALISATION, is_result

COUNTS = {"train": 24, "val": 6, "test": 24}
SETTINGS = LocalisationSettings(methods=("attention", "chefer"), draws=1)


@pytest.fixture(scope="module")
def dataset():
    return phantom_lesions(counts=COUNTS)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("localise") / "out"


@pytest.fixture(scope="module")
def result(backbone, dataset, neurons, cache, out):
    return write_localisation(backbone, dataset, neurons, out, SETTINGS, Run(cache=cache))


def value(result, arm, method, metric="relevance_mass"):
    table = result.tables["localisation.csv"]
    return table[(table.arm == arm) & (table.method == method) & (table.metric == metric)].iloc[0]


def verdict(result, first, second, method, metric="relevance_mass"):
    table = result.tables["localisation_pairs.csv"]
    rows = table[(table["first"] == first) & (table.second == second) & (table.method == method)]
    return rows[rows.metric == metric].iloc[0].verdict


def test_the_order_of_arms_and_methods_is_the_planted_one(result):
    """Attention lies on the dark border until its neurons move; what asks for the class finds the spot."""
    attention = {arm: value(result, arm, "attention").value for arm in ("plain", "token", "ttr", "random")}
    chance = value(result, "random-map", "baseline").value
    assert max(attention[arm] for arm in ("plain", "token", "random")) < chance / 2 < attention["ttr"]
    assert verdict(result, "ttr", "plain", "attention") == "higher"
    assert verdict(result, "ttr", "random", "attention") == "higher"
    assert verdict(result, "plain", "random-map", "attention") == "lower"
    assert verdict(result, "token", "plain", "attention") == "equivalent"
    for arm in ("plain", "ttr"):
        assert value(result, arm, "chefer").ci_low > chance
        assert value(result, arm, "chefer").value > value(result, arm, "attention").value


def test_a_random_map_scores_chance_within_its_interval(result):
    for metric in ("pointing_game", "relevance_mass", "relevance_rank"):
        row = value(result, "random-map", "baseline", metric)
        assert row.ci_low <= result.found.shares.mean() <= row.ci_high
        assert row.baseline == row.value


def test_the_tables_follow_from_the_images(result):
    table, images = result.tables["localisation.csv"], result.tables["images.csv"]
    assert tuple(table.columns) == tables.COLUMNS
    assert len(table) == (4 * 2 + 2) * (len(METRICS) + 1)
    for row in table.iloc[::7].itertuples():
        own = images[(images.arm == row.arm) & (images.method == row.method) & (images.metric == row.metric)]
        mean, interval = level(own.value.to_numpy(), shares=True)
        assert (row.value, row.ci_low, row.ci_high, row.n) == (mean, interval.low, interval.high, 24)
    sizes = result.tables["localisation_sizes.csv"]
    assert set(sizes["size"]) == set(tables.SIZES)
    assert set(sizes.n) == {8}
    assert tuple(images.columns) == ("image", "arm", "method", "metric", "value", "share", "size")
    small, large = (images[images["size"] == size].share for size in ("small", "large"))
    assert small.max() < large.min()


def test_a_difference_is_that_of_the_images_and_keeps_patients_together(result):
    groups = tuple(f"p{n // 2}" for n in range(24))
    items = tuple(replace(item, group=g) for item, g in zip(result.found.items, groups, strict=True))
    found = replace(result.found, items=items)
    table = tables.differences(found, permutations=500)
    row = table[(table["first"] == "ttr") & (table.second == "plain") & (table.metric == "auprc")].iloc[0]
    terms = [(s, found.values[arm, "attention"]["auprc"]) for s, arm in ((1.0, "ttr"), (-1.0, "plain"))]
    expected = contrast(terms, groups=groups, shares=True, permutations=500)
    assert (row.difference, row.ci_low, row.p) == (expected.value, expected.interval.low, expected.p)
    assert expected.interval != contrast(terms, shares=True, permutations=500).interval
    assert set(table.family) == {
        f"{method}, {what}"
        for method in ("attention", "chefer")
        for what in ("between arms", "against baselines")
    }


def test_the_folder_is_whole_and_says_what_it_holds(result, out):
    for name in result.tables:
        pd.testing.assert_frame_equal(pd.read_csv(out / name), result.tables[name], check_dtype=False)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["schema"] == "ttr.localize/1"
    assert set(manifest["files"]) == {path.name for path in out.iterdir()} - {"manifest.json"}
    assert manifest["answer"] == result.answer
    page = held_to_the_design(out / "index.html").whole
    for words in ("Best with ttr", "Worst with ttr", "Most changed from plain to ttr", "not the biology"):
        assert words in page
    assert page.count("<figure>") == 3 * 3 * 3
    assert "https://" not in page
    assert "Insertion and deletion" not in page
    assert not (out / "curves.csv").exists()


def test_the_answer_is_one_sentence_with_both_numbers_and_chance(result):
    plain, moved = (value(result, arm, "attention").value for arm in ("plain", "ttr"))
    moved, plain, chance = (
        f"{100 * each:.1f} %" for each in (moved, plain, value(result, "random-map", "baseline").value)
    )
    assert f"{plain} with plain and {moved} with ttr by attention, higher;" in result.answer
    assert result.answer.endswith(f"of a random map it is {chance}")
    assert any("logistic head whose classes are asked for is right on" in note for note in result.notes)


def test_a_margin_as_wide_as_what_a_random_map_scores_is_said(result):
    """Where outlines are a hundredth of the image, twice as much of the map in them is within a point."""
    small = replace(result.found, shares=np.full(24, 0.011))
    assert warnings_of(small, 0.001) == []
    (said,) = warnings_of(small, 0.01)
    assert said.startswith(
        "a random map has 1.1 % of its energy in the outline, so equivalence within 1 point "
    )


def test_outlines_that_say_nothing_are_left_out_and_counted(backbone, dataset, tmp_path):
    def some(item):
        drawn = dataset.masks.open(item)
        number = int(item.name[-1])
        return np.zeros_like(drawn) if number == 1 else np.ones_like(drawn) if number == 2 else drawn

    strange = replace(
        dataset, masks=Masks(("background", "spot"), some, covers=lambda item: item.split != "val")
    )
    only = LocalisationSettings(arms=("plain",), methods=("attention",))
    found = write_localisation(backbone, strange, None, tmp_path / "out", only)
    assert len(found.found.items) == 24 - 3 - 3
    assert found.notes == [
        "left out: 3 images whose outline is empty, cut away or too small for the model's pixels and 3 "
        "images that the outline covers whole",
        "no validation image of phantom-lesions has an outline, so iou_best_threshold is left out",
    ]
    assert "iou_best_threshold" not in set(found.tables["localisation.csv"].metric)
    assert found.answer.startswith("in the outline lies so much of a map's energy: 0.")
    nowhere = replace(strange, masks=replace(strange.masks, open=lambda item: np.zeros((224, 224), np.int64)))
    with pytest.raises(
        DataError, match="of 24 test images of phantom-lesions none has an outline that a model"
    ):
        write_localisation(backbone, nowhere, None, tmp_path / "none", only)
    with pytest.raises(DataError, match="has no mask and no box of a class in its test split"):
        write_localisation(backbone, replace(dataset, masks=None), None, tmp_path / "none", only)
    assert not (tmp_path / "none").exists()


def test_maps_that_are_one_number_are_said_and_score_the_share(backbone, dataset, monkeypatch, tmp_path):
    def flat(backbone, images, **asked):
        return images.new_zeros(len(images), *backbone.layout.grid)

    monkeypatch.setattr("ttr.studies.localize.looking.attribute", flat)
    only = LocalisationSettings(arms=("plain",), methods=("attention",), num_images=6)
    found = write_localisation(backbone, dataset, None, tmp_path / "out", only)
    assert "100 % of the attention maps of plain are one number all over" in found.notes[-1]
    values = found.found.values["plain", "attention"]
    assert all(np.allclose(each, found.found.shares) for each in values.values())
    assert len(found.found.items) == 6


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"arms": ("bare",)}, "arms bare; needed one or more of plain"),
        ({"methods": ("grad-cam",)}, "methods grad-cam; needed one or more of attention"),
        ({"head": "svm"}, "head svm"),
        ({"num_images": 1}, "num_images=1"),
        ({"draws": 0}, "draws=0"),
        ({"num_registers": 0}, "num_registers=0"),
        ({"num_registers": 5000}, "num_registers=5000; needed 1024 at most"),
        ({"margin": 2.0}, "margin=2.0"),
    ],
)
def test_settings_outside_their_range_are_refused(wrong, says):
    with pytest.raises(OptionError, match=says):
        LocalisationSettings(**wrong)


def test_the_best_threshold_is_chosen_on_validation_images_alone(result):
    kept = result.found.values["ttr", "chefer"]["iou_best_threshold"]
    assert set(result.found.thresholds.values()) <= set(localisation.THRESHOLDS)
    assert kept.shape == (24,)
    assert len(set(result.found.thresholds.values())) > 1


#: Everything that may be asked for, of two images.
WHOLE = LocalisationSettings(
    arms=("plain", "random"),
    methods=("attention",),
    draws=2,
    num_images=2,
    curves=("zero",),
    sanity=True,
    discovery=True,
)


@pytest.fixture(scope="module")
def small():
    """The phantom at 16 patches, for what is asked of each many times."""
    return ttr.load("phantom", image_size=64)


@pytest.fixture(scope="module")
def followed(small, dataset, neurons, cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("followed") / "out"
    return write_localisation(small, dataset, neurons, out, WHOLE, Run(cache=cache)), out


def test_a_folder_with_everything_is_known_as_a_result_that_may_be_replaced(followed):
    result, out = followed
    assert is_result(out, LOCALISATION)
    assert len(result.tables) == 9


@pytest.mark.slow
def test_a_repeated_run_replaces_the_folder_with_the_same_bytes(followed, small, dataset, neurons, cache):
    result, out = followed
    before = {name: (out / name).read_bytes() for name in result.tables}
    write_localisation(small, dataset, neurons, out, WHOLE, Run(cache=cache, batch_size=8, workers=1))
    assert {name: (out / name).read_bytes() for name in before} == before


def test_draws_of_a_random_arm_are_averaged_image_by_image(followed, small, dataset, neurons):
    images = followed[0].tables["images.csv"]
    own = images[(images.arm == "random") & (images.metric == "relevance_mass")].set_index("image").value
    items = followed[0].found.items
    assert list(own.index) == [item.name for item in items]
    drawn = arms(("random",), small, neurons, draws=2)
    looker = Looker(small, dataset, drawn, ["attention"], None)
    (batch,) = looker.batches(looker.reading(items, Run()), 4)
    each = [
        [relevance_mass(m, b.truth) for m, b in zip(maps, batch, strict=True)]
        for *_, maps in looker.maps(batch)
    ]
    assert len(each) == 2
    np.testing.assert_allclose(own, np.mean(each, axis=0), rtol=1e-4)


def test_curves_are_a_table_whose_areas_are_the_metrics(followed):
    result, out = followed
    table = result.tables["curves.csv"]
    assert set(table.method) == {"attention", "random-map", "centre-map"}
    names = curve_names(["zero"])
    assert set(table.curve) == set(names)
    assert len(table) == 2 * 3 * len(names) * len(SHARES)
    for arm in ("plain", "random"):
        whole, none = (
            table[(table.arm == arm) & (table.share == share)].set_index(["method", "curve"]).value
            for share in (1, 0)
        )
        for method in ("attention", "random-map", "centre-map"):
            assert whole[method, "insertion_zero"] == pytest.approx(none[method, "deletion_zero"], abs=1e-6)
            assert whole[method, "deletion_zero"] == pytest.approx(whole["attention", "deletion_zero"])
        for name in names:
            own = table[(table.arm == arm) & (table.curve == name)]
            along = {method: part.value.to_numpy() for method, part in own.groupby("method")}
            row = value(result, arm, "attention", name)
            assert row.value == pytest.approx(areas(along["attention"]))
            assert row.baseline == pytest.approx(areas(along["random-map"])), "under the arm's own model"
    assert "curves.csv" in json.loads((out / "manifest.json").read_text())["files"]
    assert "Insertion and deletion" in (out / "index.html").read_text()


def test_the_spot_itself_rises_earlier_than_what_is_around_it(backbone, dataset, cache):
    """Followed by the truth and by its contrary, the probability ends where the head has it on its own."""
    asked, _ = _asked(backbone, dataset, LocalisationSettings(arms=("plain",)), Run(cache=cache))
    looker = Looker(backbone, dataset, [PLAIN], ["attention"], asked)
    (batch,) = looker.batches(looker.reading(dataset.select("test")[:6], Run()), 6)
    spots = [(each.truth.inside / each.truth.pixels).reshape(each.truth.grid) for each in batch]
    seeds = [[0, n] for n in range(6)]
    both = (spots, [-s for s in spots])
    right, wrong = (np.array(looker.curves(batch, maps, seeds, ["zero"], 8)) for maps in both)
    features = backbone.embed(torch.stack([each.pixels for each in batch]))
    expected = asked.logits(features).double().softmax(dim=1)[range(6), [0, 1] * 3].detach().numpy()
    for found in (right, wrong):
        np.testing.assert_allclose(found[:, 0, -1], expected, rtol=1e-4)
        np.testing.assert_allclose(found[:, 1, 0], expected, rtol=1e-4)
    (filled,) = looker.curves(batch[:1], spots[:1], seeds[:1], ["road"], 8)
    ends = right[0, 0, 0], expected[0]
    np.testing.assert_allclose([filled[0, 0], filled[0, -1]], ends, atol=0.02)
    np.testing.assert_allclose([filled[1, -1], filled[1, 0]], ends, atol=0.02)
    assert not np.allclose(filled[:, 1:-1], right[0][:, 1:-1], atol=1e-6)
    (rises, falls), (late, stays) = (areas(each).mean(axis=0) for each in (right, wrong))
    assert rises > late
    assert falls < stays


def test_hits_and_boxes_stand_beside_the_others_on_request(backbone, dataset, neurons, tmp_path):
    asked = LocalisationSettings(arms=("plain",), methods=("attention",), num_images=4)
    plain = write_localisation(backbone, dataset, neurons, tmp_path / "plain", asked)
    boxed = write_localisation(backbone, dataset, neurons, tmp_path / "boxed", replace(asked, boxes=True))
    rows, more = (each.tables["localisation.csv"] for each in (plain, boxed))
    assert set(more.metric) - set(rows.metric) == set(BOXED)
    pd.testing.assert_frame_equal(more[~more.metric.isin(list(BOXED))].reset_index(drop=True), rows)
    assert (
        value(boxed, "plain", "attention", "pointing_any").value
        >= value(boxed, "plain", "attention", "pointing_game").value
    )
    assert "Chung et al. 2025" in (tmp_path / "boxed" / "index.html").read_text()
    assert "Chung et al. 2025" not in (tmp_path / "plain" / "index.html").read_text()


def test_a_single_patient_is_no_patients_on_the_page(result, dataset):
    items = tuple(replace(item, group="one") for item in result.found.items)
    assert _units(replace(result.found, items=items), dataset) == "1 patient"
    assert _units(replace(result.found, items=items), replace(dataset, groups="lesions")) == "1 lesion"
    assert _units(replace(result.found, items=items[:1] + result.found.items[1:]), dataset).endswith("s")
    assert _units(result.found, dataset) == ""


@pytest.mark.slow  # widths, the dark and paper are held in test_reports_in_browser.py
@pytest.mark.browser
def test_the_page_is_read_whole_on_a_telephone(followed, browser, tmp_path):
    """A name without a space, a caption longer than the window, and charts of several curves."""
    (result, out), long = followed, "x" * 200
    text = (out / "index.html").read_text().replace(result.found.items[0].name, long)
    (tmp_path / "index.html").write_text(text)
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.goto((tmp_path / "index.html").as_uri())
    page.wait_for_selector("body[data-ready]", state="attached")
    assert long in page.inner_text("body")
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    captions = page.evaluate("[...document.querySelectorAll('caption')].map(c => c.offsetWidth)")
    assert len(captions) == 5
    assert all(300 < width <= 390 for width in captions)
    plots = page.evaluate("[...document.querySelectorAll('.plot .main-svg')].map(e => e.clientWidth)")
    assert plots
    assert all(300 < width <= 390 for width in plots), "each fills the window, below the one before"
    page.close()
