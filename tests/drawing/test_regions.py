"""Where a map is bright: shares of a scale, contours, boxes and the numbers along it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ttr.drawing.regions import boxes, edges, first_of_log, shares, ticks

MAPS = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.floats(0, 1))


def test_shares_run_from_end_to_end_straight_or_by_powers_of_ten():
    values = np.array([-1.0, 0.0, 2.0, 4.0, 9.0])
    assert shares(values, 0, 4).tolist() == [0, 0, 0.5, 1, 1]
    by_log = shares(np.array([0.0, 1e-4, 1e-3, 1e-1, 1.0, 2.0]), 0, 1.0, log=True)
    assert by_log == pytest.approx([0, 0, 0, 2 / 3, 1, 1])
    assert shares(np.array([1.0, 10.0, 100.0]), 1.0, 100.0, log=True) == pytest.approx([0, 0.5, 1])
    assert shares(np.array([3.0]), 3.0, 3.0).tolist() == [0]
    assert shares(np.array([-3.0]), -5.0, -1.0, log=True).tolist() == [0.5], "no logarithm below 0"


@given(MAPS, st.floats(0.05, 1))
def test_edges_are_where_one_side_is_inside_and_the_other_is_not(found, level):
    """Walked patch by patch, each side of each patch that is inside once."""
    inside = found >= level
    rows, columns = found.shape
    expected = set()
    for row in range(rows):
        for column in range(columns):
            if not inside[row, column]:
                continue
            for down, across, side in (
                (0, -1, (column, row, column, row + 1)),
                (0, 1, (column + 1, row, column + 1, row + 1)),
                (-1, 0, (column, row, column + 1, row)),
                (1, 0, (column, row + 1, column + 1, row + 1)),
            ):
                r, c = row + down, column + across
                if not (0 <= r < rows and 0 <= c < columns and inside[r, c]):
                    expected.add(side)
    drawn = edges(found, level)
    assert set(drawn) == expected
    assert len(drawn) == len(expected)


@given(MAPS, st.floats(0.05, 1))
def test_boxes_hold_all_that_is_bright_and_touch_it_on_each_side(found, level):
    covered = np.zeros(found.shape, dtype=bool)
    for left, top, right, bottom in boxes(found, level):
        part = found[top:bottom, left:right] >= level
        covered[top:bottom, left:right] = True
        assert all(part[line].any() for line in (0, -1))
        assert all(part[:, line].any() for line in (0, -1))
    assert covered[found >= level].all()


def test_what_meets_at_a_corner_alone_gets_two_boxes():
    assert boxes(np.eye(2)) == [(0, 0, 1, 1), (1, 1, 2, 2)]
    assert boxes(np.zeros((3, 3))) == []


@given(st.floats(0, 1e5), st.floats(1e-7, 1e6), st.booleans())
def test_no_two_numbers_along_a_scale_are_alike(low, span, log):
    high = low + span
    found = ticks(low, high, log=log)
    if math.isclose(low, high, rel_tol=1e-9):
        return  # nobody would read so many digits
    written = [text for _, text in found]
    assert len(set(written)) == len(written)
    assert [share for share, _ in found] == [0, 0.25, 0.5, 0.75, 1]
    assert float(written[-1]) == pytest.approx(high, rel=5e-3, abs=span / 100)


@given(st.floats(1e-6, 1e5), st.floats(0, 0.9))
def test_numbers_along_a_logarithmic_scale_are_those_of_their_places(high, share):
    """None is 0, which such a scale has not, and the smallest is as exact as the largest."""
    written = [float(text) for _, text in ticks(share * high, high, log=True)]
    first = first_of_log(share * high, high)
    expected = [first * (high / first) ** place for place in (0, 0.25, 0.5, 0.75, 1)]
    assert written == pytest.approx(expected, rel=6e-3)


def test_a_map_of_one_value_has_one_number():
    assert ticks(0.0, 0.0) == [(1.0, "0")]
    assert ticks(0.0, 0.003) == [
        (0.0, "0"),
        (0.25, "0.00075"),
        (0.5, "0.00150"),
        (0.75, "0.00225"),
        (1.0, "0.00300"),
    ]
    assert [text for _, text in ticks(0.0, 382.9)] == ["0", "96", "191", "287", "383"]
    assert [text for _, text in ticks(0.0, 2e-5)] == ["0", "5.00e-06", "1.00e-05", "1.50e-05", "2.00e-05"]
