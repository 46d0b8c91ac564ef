"""LOST over a set: its numbers are the algorithm's own on the same images, and arms are compared in pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import binomtest

import ttr
from ttr.datasets.phantom_lesions import phantom_lesions
from ttr.datasets.registry import Outlines, groups_of, open_dataset
from ttr.evaluate.discovery import boxes_of, objects_found
from ttr.registers.arms import PLAIN, arms
from ttr.run import Run
from ttr.statistics.estimates import share
from ttr.studies.localize.discovery import COLUMNS, Discovery, corloc, discover, pairs, told
from ttr.studies.localize.looking import Looker


@pytest.fixture(scope="module")
def made():
    """Eight lesions of four patients under three arms, two of them draws of one."""
    backbone, dataset = (
        ttr.load("phantom", image_size=112),
        phantom_lesions(counts={"train": 2, "val": 2, "test": 8}),
    )
    neurons = ttr.RegisterNeurons.from_pairs(backbone.planted)
    treatments = arms(("plain", "ttr", "random"), backbone, neurons, draws=2)
    looker = Looker(backbone, dataset, treatments, ["attention"], None, finds_boxes=True)
    return looker, discover(looker, dataset.select("test"), Run(batch_size=3))


def test_the_numbers_are_the_algorithms_own_image_by_image(made):
    looker, found = made
    (batch,) = looker.batches(looker.reading(found.items, Run()), 8)
    for way, centred in (("lost", False), ("lost-centred", True)):
        images, truth = [each.pixels for each in batch], [each.boxes for each in batch]
        own = objects_found(looker.backbone, images, truth, looker.arms, centred=centred)
        assert np.array_equal(found.found["plain", way], own["plain"])
        assert np.array_equal(found.found["ttr", way], own["ttr"])
        draws = [values for name, values in own.items() if name not in ("plain", "ttr")]
        assert np.array_equal(found.found["random", way], np.mean(draws, axis=0))
        assert 0 < found.positive["plain", way] <= 1


def test_the_boxes_are_those_of_the_masks_as_the_model_sees_them(made):
    looker, found = made
    (batch,) = looker.batches(looker.reading(found.items[:1], Run()), 1)
    (left, top, right, bottom) = batch[0].boxes[0].astype(int)
    assert len(batch[0].boxes) == 1
    rows, columns = np.nonzero(batch[0].outline == 1)
    assert (left, right, top, bottom) == (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1)
    assert Outlines.of(looker.dataset).masked(found.items[0])
    two = np.zeros((6, 6), dtype=bool)
    two[1:3, 0:2] = two[3:6, 2:5] = True
    assert boxes_of(two).tolist() == [[0, 1, 2, 3], [2, 3, 5, 6]], "a corner joins nothing"


def test_boxes_of_a_table_lie_where_the_outline_drawn_of_them_lies(tmp_path):
    """Of an image that is not square: height and width must not change places on the way."""
    backbone = ttr.load("phantom", image_size=112)
    splits = ("train", "val", "test")
    for split in splits:
        Image.new("RGB", (150, 100)).save(tmp_path / f"{split}.png")
    rows = [f'{split}.png,a,{split},"80,20,110,60"' for split in splits]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,split,box", *rows]))
    dataset = open_dataset("csv", tmp_path / "t.csv")
    looker = Looker(backbone, dataset, [PLAIN], ["attention"], None)
    ((seen,),) = looker.batches(looker.reading(dataset.select("test"), Run()), 1)
    assert seen.boxes.shape == (0, 4), "nobody asked for them"
    looker = replace(looker, finds_boxes=True)
    ((seen,),) = looker.batches(looker.reading(dataset.select("test"), Run()), 1)
    np.testing.assert_allclose(seen.boxes, boxes_of(seen.outline == 1), atol=1)


def test_tables_have_intervals_and_pairs(made):
    table, between = corloc(made[1]), pairs(made[1])
    assert tuple(table.columns) == COLUMNS
    assert table.method.tolist() == ["lost", "lost-centred"] * 3
    row = table.iloc[0]
    values = made[1].found["plain", "lost"].astype(float)
    interval = share(values, groups_of(made[1].items)).interval()
    assert (row.ci_low, row.ci_high) == pytest.approx((interval.low, interval.high), nan_ok=True)
    assert set(zip(between["first"], between["second"], strict=True)) >= {("ttr", "plain")}
    for each in between.itertuples():
        first, second = (made[1].found[name, each.method] for name in (each.first, each.second))
        assert each.difference == pytest.approx((first - second).mean())
    assert pd.notna(between.verdict).all()
    assert told(table).startswith(
        "the box that LOST finds without labels holds an object (CorLoc): lost plain"
    )


def test_two_arms_are_compared_by_mcnemars_exact_test_and_a_share_has_wilsons_interval(made):
    draw = np.random.default_rng(0)
    first, second = draw.random(60) < 0.8, draw.random(60) < 0.5
    kinds = {("ttr", "lost"): first, ("plain", "lost"): second, ("random", "lost"): (first + 1.0) / 2}
    items = tuple(replace(made[1].items[0], name=f"{n}", group=None) for n in range(60))
    found = Discovery(
        items, {kind: each.astype(float) for kind, each in kinds.items()}, dict.fromkeys(kinds, 0.5)
    )
    row = pairs(found).set_index(["first", "second"]).loc[("ttr", "plain")]
    only = int((first & ~second).sum()), int((second & ~first).sum())
    assert (row.only_first, row.only_second) == only
    assert row.p_mcnemar == pytest.approx(binomtest(only[0], sum(only)).pvalue)
    assert np.isnan(pairs(found).set_index("second").loc["random"].p_mcnemar), "draws are averaged"
    grouped = replace(found, items=tuple(replace(item, group=item.name[-1]) for item in items))
    assert np.isnan(pairs(grouped).set_index("second").loc["plain"].p_mcnemar).all()
    ends = binomtest(int(first.sum()), 60).proportion_ci(method="wilson")
    own = corloc(found).set_index("arm").loc["ttr"]
    assert (own.ci_low, own.ci_high) == pytest.approx((ends.low, ends.high))
