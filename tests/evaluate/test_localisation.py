"""Localisation by hand, against scikit-learn, plain loops over pixels, and what chance must score."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, jaccard_score

from ttr.datasets.registry import IGNORE
from ttr.errors import OptionError
from ttr.evaluate.localisation import (
    BOXED,
    METRICS,
    STRONGEST,
    THRESHOLDS,
    Truth,
    auprc,
    best_threshold,
    box_iou,
    centred_gaussian,
    iou_at,
    iou_otsu,
    is_flat,
    pointing_any,
    pointing_game,
    relevance_mass,
    relevance_rank,
)

MAP = np.array([[1.0, 2.0], [5.0, 2.0]])
#: Over 2 x 2 patches of 2 x 2 pixels: two pixels of the lower left, one of the upper right.
MASK = np.array([[0, 0, 1, 0], [0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], dtype=bool)
HAND = Truth.of(MASK, (2, 2))


def drawn(seed, grid=(5, 7), side=3, levels=None):
    """Return a map, a mask of about a fifth of the pixels, and the map as pixels."""
    random = np.random.default_rng(seed)
    relevance = random.normal(size=grid) if levels is None else random.integers(0, levels, grid) / 1.0
    mask = random.random((grid[0] * side, grid[1] * side)) < 0.2
    mask[0, 0] = True
    return relevance, mask, np.kron(relevance, np.ones((side, side)))


def test_by_hand():
    assert HAND.inside.tolist() == [0, 1, 2, 0]
    assert HAND.share == 3 / 16
    assert pointing_game(MAP, HAND) == 0.5
    assert relevance_mass(MAP, HAND) == pytest.approx((2 * 5 + 1 * 2) / (4 * 10))
    # Three pixels: all of them in the patch of 5, half of which is inside.
    assert relevance_rank(MAP, HAND) == pytest.approx(3 * 2 / 4 / 3)
    # 5: 2 of 4; then the two patches of 2: 3 of 12; the last adds nothing.
    assert auprc(MAP, HAND) == pytest.approx(2 / 3 * 2 / 4 + 1 / 3 * 3 / 12)
    # Otsu keeps the patch of 5: 2 of 4 + 3 - 2 pixels.
    assert iou_otsu(MAP, HAND) == pytest.approx(2 / 5)
    # Scaled to 0, 1/4, 1/4, 1: from .3 on the same patch, at .2 all but the upper left.
    assert iou_at(MAP, HAND, np.array([0.2, 0.25, 0.3])) == pytest.approx([3 / 12, 3 / 12, 2 / 5])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 2, 4]))
def test_against_pixels(seed, levels):
    relevance, mask, pixels = drawn(seed, levels=levels)
    truth = Truth.of(mask, relevance.shape)
    assert auprc(relevance, truth) == pytest.approx(average_precision_score(mask.ravel(), pixels.ravel()))
    strongest = pixels == pixels.max()
    assert pointing_game(relevance, truth) == pytest.approx(mask[strongest].mean())
    positive = pixels.clip(0)
    if positive.any():
        expected = positive[mask].sum() / positive.sum()
        assert relevance_mass(relevance, truth) == pytest.approx(expected)
    if np.ptp(pixels):
        scaled = (pixels - pixels.min()) / np.ptp(pixels)
        expected = [jaccard_score(mask.ravel(), (scaled >= t).ravel()) for t in THRESHOLDS[::6]]
        assert iou_at(relevance, truth, THRESHOLDS[::6]) == pytest.approx(expected)
        assert iou_otsu(relevance, truth) == pytest.approx(
            jaccard_score(mask.ravel(), (pixels > otsu_by_loop(pixels)).ravel())
        )


def otsu_by_loop(pixels):
    """Return the number up to which pixels are background, as skimage's formula has it, bin by bin."""
    best, found = -1.0, None
    for level in np.unique(pixels)[:-1][::-1]:
        low, high = pixels[pixels <= level], pixels[pixels > level]
        between = low.size * high.size * (low.mean() - high.mean()) ** 2
        if between > best * (1 + 1e-12):
            best, found = between, level
    return found


def test_the_rank_accuracy_of_ties_is_the_mean_over_every_choice():
    relevance, mask, pixels = drawn(3, levels=3)
    truth, random = Truth.of(mask, relevance.shape), np.random.default_rng(0)
    wanted = mask.sum()
    picked = [
        mask.ravel()[np.lexsort((random.random(mask.size), -pixels.ravel()))[:wanted]].mean()
        for _ in range(4000)
    ]
    assert relevance_rank(relevance, truth) == pytest.approx(np.mean(picked), abs=4 * np.std(picked) / 63)


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0, 1e-300])
@pytest.mark.parametrize("name", METRICS)
def test_a_map_that_says_nothing_scores_the_share_of_the_mask(name, value):
    flat = np.full((2, 2), value)
    assert METRICS[name](flat, HAND) == pytest.approx(HAND.share)
    assert iou_at(flat, HAND) == pytest.approx(np.full(len(THRESHOLDS), HAND.share))
    assert is_flat(flat)
    assert not is_flat(MAP)


def test_what_speaks_against_a_class_has_no_energy_and_its_order_counts_all_the_same():
    assert relevance_mass(MAP - 2, HAND) == pytest.approx(3 * 2 / (3 * 4))
    assert relevance_mass(MAP - 9, HAND) == pytest.approx(HAND.share)
    for metric in (pointing_game, relevance_rank, auprc, iou_otsu):
        assert metric(MAP - 9, HAND) == pytest.approx(metric(MAP, HAND))
        assert metric(1e200 * MAP, HAND) == pytest.approx(metric(MAP, HAND))


@pytest.mark.parametrize("name", METRICS)
def test_full_empty_and_strange_input(name):
    full = Truth.of(np.ones((4, 4)), (2, 2))
    if name == "iou_otsu":
        assert METRICS[name](MAP, full) == pytest.approx(1 / 4)
    else:
        assert METRICS[name](MAP, full) == pytest.approx(1)
    with pytest.raises(OptionError, match="the mask is empty"):
        METRICS[name](MAP, Truth.of(np.zeros((4, 4)), (2, 2)))
    with pytest.raises(OptionError, match="NaN or infinite"):
        METRICS[name](MAP * np.nan, HAND)
    with pytest.raises(OptionError, match="needed one grid"):
        METRICS[name](MAP[:1], HAND)
    with pytest.raises(OptionError, match="needed at least a pixel a patch"):
        Truth.of(MASK, (5, 2))


def test_pixels_that_do_not_count_are_as_if_cut_away():
    relevance, mask, _ = drawn(5)
    marked = mask.astype(int)
    marked[:, 6:9] = IGNORE
    whole, cut = Truth.of(marked, (5, 7)), Truth.of(np.delete(mask, range(6, 9), axis=1), (5, 6))
    others = np.delete(relevance, 2, axis=1)
    assert whole.share == cut.share
    for metric in METRICS.values():
        assert metric(relevance, whole) == pytest.approx(metric(others, cut))


def test_a_random_map_scores_chance_and_a_centred_one_finds_the_middle():
    random = np.random.default_rng(0)
    mask = np.zeros((56, 56), dtype=bool)
    mask[3:20, 30:51] = True
    truth = Truth.of(mask, (14, 14))
    maps = random.random((400, 14, 14))
    for metric in (pointing_game, relevance_mass, relevance_rank):
        values = [metric(each, truth) for each in maps]
        assert np.mean(values) == pytest.approx(truth.share, abs=4 * np.std(values) / 20)
    middle = np.zeros((56, 56), dtype=bool)
    middle[20:36, 20:36] = True
    found = Truth.of(middle, (14, 14))
    assert pointing_game(centred_gaussian((14, 14)), found) == 1
    assert auprc(centred_gaussian((14, 14)), found) > 0.9
    assert centred_gaussian((3, 5)).argmax() == 7
    assert centred_gaussian((2, 2)) == pytest.approx(np.exp(-np.full((2, 2), 0.125) / 0.125))


def test_the_best_threshold_is_that_of_the_mean_over_images():
    assert best_threshold(np.array([[0.1, 0.9, 0.5], [0.9, 0.0, 0.6]])) == 2
    assert best_threshold(np.array([[0.5, 0.5]])) == 0


#: A map and a mask (centre, radius), and what Quantus 0.6.0 says: PointingGame, RelevanceMassAccuracy and
#: RelevanceRankAccuracy with normalise=False.
QUANTUS = (
    ((5, 7), (4, 5, 3.2), (1.0, 0.2684017420355566, 0.2702702702702703)),
    ((35, 1), (8, 3, 2.1), (0.0, 0.1028069442787257, 0.15384615384615385)),
    ((89, 50), (2, 9, 4.5), (1.0, 0.3346020761245675, 0.34782608695652173)),
    ((131, 20), (6, 6, 1.5), (0.0, 0.021635246390645506, 0.0)),
)


@pytest.mark.parametrize(("steps", "disc", "said"), QUANTUS)
def test_against_what_quantus_says_of_the_same_maps(steps, disc, said):
    factor, offset = steps
    row, column, radius = disc
    y, x = np.mgrid[:12, :12]
    relevance = ((factor * np.arange(144) + offset) % 144 + 1.0).reshape(12, 12) ** 2 / 1000
    truth = Truth.of(np.hypot(y - row, x - column) <= radius, (12, 12))
    found = [metric(relevance, truth) for metric in (pointing_game, relevance_mass, relevance_rank)]
    assert found == pytest.approx(said, abs=1e-6)


def test_hits_and_boxes_by_hand():
    """The strongest patch is half inside: a hit here. A quarter of the pixels is that patch, and the next."""
    assert (pointing_any(MAP, HAND), pointing_any(-MAP, HAND)) == (1, 0)
    assert box_iou(MAP, HAND, 20) == pytest.approx(2 / 5)
    # Rank 4 of 16 pixels is one of the patches of 2, which are on the other diagonal: the box is all.
    assert box_iou(MAP, HAND, 25) == pytest.approx(3 / 16)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 3]))
def test_boxes_against_pixels(seed, levels):
    """As the study's code goes about it: sort the pixels, cut, and draw one box around all that is left."""
    relevance, mask, pixels = drawn(seed, levels=levels)
    truth = Truth.of(mask, relevance.shape)
    assert pointing_any(relevance, truth) == mask[pixels == pixels.max()].any()
    for percent in STRONGEST:
        cut = np.sort(pixels.ravel())[::-1][int(pixels.size * percent / 100)]
        rows, columns = np.nonzero(pixels >= cut)
        box = np.zeros_like(mask)
        box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
        expected = (box & mask).sum() / (box | mask).sum()
        assert BOXED[f"box_iou_{percent}"](relevance, truth) == pytest.approx(expected)


def test_a_map_that_says_nothing_has_neither_a_hit_nor_a_box():
    assert {metric(np.zeros((2, 2)), HAND) for metric in BOXED.values()} == {HAND.share}


def test_pixels_of_which_nothing_is_known_are_in_no_box():
    mask = np.where(MASK, 1, 0)
    mask[:2, 2:] = IGNORE
    truth = Truth.of(mask, (2, 2))
    assert box_iou(np.array([[1.0, 9.0], [5.0, 2.0]]), truth, 5) == pytest.approx(2 / 4)
