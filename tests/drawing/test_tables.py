"""Tables of a report: units, intervals, groups, and how much room they take."""

from __future__ import annotations

import pytest

from ttr.drawing.tables import Cell, Table, grouped, number, of, percent, points, printed

NAN = float("nan")


def test_shares_stand_in_per_cent_and_their_differences_in_points():
    assert percent(0.7325, 0.67, 0.785) == Cell("73.2", "[67.0, 78.5]")
    assert points(-0.0417, -0.077, 0.016) == Cell("−4.2", "[−7.7, +1.6]")
    assert percent(0.5) == Cell("50.0")


def test_other_numbers_stand_as_they_are():
    assert number(0.12345, "{:.3f}", -0.1, 0.2) == Cell("0.123", "[−0.100, 0.200]")
    assert number(NAN, "{:.3f}", 0.1, 0.2) == number(None, "{:.3f}") == Cell("–")
    assert number(0.5, "{:.1f}", NAN, 0.2) == Cell("0.5")


@pytest.mark.parametrize("value", [-0.0004, 0.0, 0.0004, -0.0])
def test_nothing_is_neither_negative_nor_positive(value):
    assert points(value).text == "0.0"
    assert number(value, "{:.2f}").text == "0.00"
    assert printed(value, "{:+.1f} points", 100) == "0.0 points"


def test_a_unit_is_no_number_and_a_minus_is_one():
    assert printed(-0.5, "{:.1f} %", 100) == "−50.0 %"


def test_a_column_brings_its_interval():
    row = {"cosine": 0.5, "cosine_low": 0.4, "cosine_high": 0.6, "ci_low": 0.1, "ci_high": 0.9}
    assert of(row, "cosine", "{:.1f}") == Cell("0.5", "[0.4, 0.6]")
    assert of(row, "cosine", "{:.1f}", ("ci_low", "ci_high")) == Cell("0.5", "[0.1, 0.9]")
    assert of({"null": 0.5}, "null", "{:.1f}") == Cell("0.5")


def test_rows_are_grouped_in_the_order_in_which_groups_are_met():
    found = grouped([("b", 1), ("a", 2), ("b", 3)], lambda pair: pair[0], lambda pair: [str(pair[1])])
    assert found == [("b", [["1"], ["3"]]), ("a", [["2"]])]


def test_a_table_knows_its_room_and_whether_it_holds_anything():
    def table(columns, **options):
        return Table("caption", [str(n) for n in range(columns)], [("", [["x"] * columns] * 2)], **options)

    assert [table(n).breadth for n in (2, 4, 5, 6, 7)] == ["few", "few", "some", "some", "many"]
    assert table(4, words=("1",)).breadth == "some", "words need more room than numbers"
    assert table(2).length == 2
    assert not Table("caption", ("a",), [])
