"""One rule for all differences: its table of truth, its families, and its words."""

from __future__ import annotations

import math
from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttr.errors import OptionError
from ttr.statistics.contrasts import contrast
from ttr.statistics.estimates import smallest_detectable_difference
from ttr.statistics.verdict import (
    FEWEST,
    Judged,
    check_margin,
    family_said,
    fires,
    holm,
    judge,
    judge_families,
    said,
    verdict,
)

NAN = math.nan


def compared(lost: int, won: int, count: int = 400):
    """An arm that loses and wins so many images against another."""
    change = np.zeros(count)
    change[:lost], change[lost : lost + won] = -1, 1
    return contrast([(1.0, change), (-1.0, np.zeros(count))], shares=True)


@pytest.mark.parametrize(
    ("low", "high", "p", "equivalent", "expected"),
    [
        (0.01, 0.05, 0.01, NAN, "higher"),
        (-0.05, -0.01, 0.01, NAN, "lower"),
        (-0.05, -0.01, 0.01, 0.01, "lower"),
        (-0.01, 0.05, 0.01, NAN, "not distinguishable"),
        (0.01, 0.05, 0.06, NAN, "not distinguishable"),
        (0.01, 0.05, 0.06, 0.04, "equivalent"),
        (-0.01, 0.01, NAN, 0.04, "equivalent"),
        (-0.01, 0.01, NAN, 0.06, "not distinguishable"),
        (0.0, 0.05, 0.01, NAN, "not distinguishable"),
        (0.01, 0.05, NAN, NAN, "not distinguishable"),
        (NAN, NAN, 0.01, NAN, "not distinguishable"),
    ],
)
def test_a_difference_is_called_what_both_tests_say(low, high, p, equivalent, expected):
    assert verdict(low, high, p, equivalent) == expected


def test_a_family_is_judged_together_and_who_cannot_fire_is_left_out():
    """Two who fire, one with five discordant images (least p 2 / 2^5 = .06), one without any, one unknown."""
    family = [compared(40, 0), compared(60, 52), compared(5, 0), compared(0, 0), None]
    found = judge(family, 0.02)
    assert [fires(each) for each in family[:4]] == [True, True, False, False]
    assert {each.tests for each in found} == {2}
    assert [found[0].p_holm, found[1].p_holm] == holm([family[0].p, family[1].p])
    assert all(math.isnan(each.p_holm) for each in found[2:])
    assert [each.verdict for each in found] == [
        *("lower", "not distinguishable", "not distinguishable", "equivalent", "")
    ]
    equivalences = holm([each.estimate.p_equivalent(0.02) for each in family[:4]])
    assert [each.p_equivalent for each in found[:4]] == equivalences
    alone = smallest_detectable_difference(400, 112 / 400, alpha=0.025)
    assert found[1].smallest_detectable == pytest.approx(alone), "that of the corrected test"
    assert math.isnan(found[0].needed)
    assert found[1].needed > 400
    assert found[4] == Judged(tests=2, margin=0.02)


def test_the_other_tests_of_a_family_count_against_each():
    one = compared(9, 0)
    assert judge([one])[0].verdict == "lower"
    others = [compared(5 + k, 4 + k) for k in range(20)]
    many = judge([one, *others])
    assert many[0].verdict == "not distinguishable"
    assert many[20].smallest_detectable > judge([others[19]])[0].smallest_detectable
    apart = judge_families([one, *others, one], "a" * 21 + "b")
    assert [each.verdict for each in (apart[0], apart[21])] == ["not distinguishable", "lower"]
    assert [apart[0].p_holm, apart[20].tests, apart[21].tests] == [many[0].p_holm, 21, 1]


def test_what_too_few_images_can_never_show_is_no_test_of_equivalence():
    """240 images without one discordant leave p = .06 within a point; 268 do for one test, 381 for two."""
    (found,) = judge([compared(0, 0, 240)])
    assert math.isnan(found.p_equivalent)
    assert said(found.columns()) == "not distinguishable (needs 268 images)"
    assert [each.needed for each in judge([compared(0, 0, 240)] * 2)] == [381, 381]
    assert {each.verdict for each in judge([compared(0, 0, 381)] * 2)} == {"equivalent"}
    assert {each.verdict for each in judge([compared(0, 0, 380)] * 2)} == {"not distinguishable"}


def test_never_are_fewer_images_said_to_tell_than_a_test_takes():
    """Three images a fifth apart: by its variance two would tell, and three were there."""
    (found,) = judge([contrast([(1.0, np.array([0.2, 0.21, 0.19]))], shares=True)])
    assert (found.verdict, found.needed) == ("not distinguishable", FEWEST)


def test_some_differences_have_a_margin_and_some_none():
    x = np.random.default_rng(0).normal(0, 0.01, 200)
    wide, none = judge([contrast([(1, x)]), contrast([(1, x)])], [0.01, NAN])
    assert wide.verdict == "equivalent"
    assert none.verdict == "not distinguishable"
    assert math.isnan(none.needed)


@settings(max_examples=60, deadline=None)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_its_closed_form(p):
    adjusted = holm(p)
    order = np.argsort(p, kind="stable")
    running = 0.0
    for place, index in enumerate(order):
        running = max(running, min(1.0, (len(p) - place) * p[index]))
        assert adjusted[index] == pytest.approx(running)
    assert all(a >= raw for a, raw in zip(adjusted, p, strict=True))


def test_holm_leaves_what_was_no_test_out():
    adjusted = holm([0.01, NAN, 0.03])
    assert (adjusted[0], adjusted[2]) == (0.02, 0.03)
    assert np.isnan(adjusted[1])


def test_verdicts_are_said_in_the_same_words_from_any_row():
    equivalent = {"verdict": "equivalent", "margin": 0.01, "needed": NAN}
    assert said(equivalent) == "equivalent within 1 point"
    assert said({**equivalent, "margin": 0.005}) == "equivalent within 0.5 points"
    unsure = namedtuple("Row", ["verdict", "margin", "needed"])("not distinguishable", 0.01, 1234.0)
    assert said(unsure) == "not distinguishable (needs 1,234 images)"
    assert said({"verdict": "not distinguishable"}) == "not distinguishable", "tables of earlier versions"
    assert said({"verdict": "lower", "margin": 0.01}) == "lower"
    assert said({"verdict": ""}) == ""


def test_a_family_is_stated():
    rows = [
        {"verdict": "lower", "tests": 1},
        {"verdict": "equivalent", "tests": 1},
        {"verdict": "", "tests": 1},
    ]
    assert family_said(rows, "registers") == (
        "registers: Holm over 1 test; 1 left out, since fewer than 6 images (groups) differ"
    )
    assert family_said([{"verdict": "lower", "tests": 2}] * 2, "cls") == "cls: Holm over 2 tests"


@pytest.mark.parametrize("margin", [0, 1, -0.1, NAN, "1", True])
def test_a_margin_is_a_share(margin):
    with pytest.raises(OptionError, match="above 0 and below 1"):
        check_margin(margin)
    assert check_margin(0.01) == 0.01
