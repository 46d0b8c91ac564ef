"""What every figure shares: what its hover says, and how a logarithmic axis is written."""

from __future__ import annotations

import pytest

from ttr.drawing.charts import Grid, curve, heatmap, interval, log_axis
from ttr.drawing.norms_and_attention import patches_and_registers


def test_a_hover_says_what_the_number_is_its_unit_and_its_interval():
    ends = ([-1.5], [2.0])
    _, line = curve([3], [-0.25], "a", 0, ends=ends, quantity="share", pattern="{:.1f} %")
    assert line.hovertext == ("<b>a</b>, block 3<br>share −0.2 %, 95 % interval [−1.5 %, 2.0 %]",)
    assert interval(-0.04, 1.0, "{:+.1f}") == "95 % interval [0.0, +1.0]"


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ([26.0, 440.0], ["20", "50", "100", "200", "500"]),
        ([0.0004, 0.9], ["0.001", "0.01", "0.1", "1"]),
        ([900.0, 4000.0, 0.0, float("nan")], ["500", "1,000", "2,000", "5,000"]),
    ],
)
def test_a_logarithmic_axis_writes_each_tick_once_and_in_full(values, written):
    assert log_axis("norm", values)["ticktext"] == written


def test_without_a_number_above_nothing_an_axis_is_plain():
    assert "type" not in log_axis("norm", [0.0])


def test_boxes_stand_on_such_an_axis():
    import numpy as np

    drawn = patches_and_registers((np.array([20.0, 40.0]), np.array([])), (np.array([0.1]), np.array([0.2])))
    assert drawn["norms"].layout.yaxis.ticktext == ("20", "50")


def test_names_of_a_heatmap_are_shown_letter_by_letter():
    grid = Grid(["<b>x</b>"], ["a & b"], [[1.0]], value=float, text=str, hover=str)
    (trace,) = heatmap(grid, unit="%", span=(0, 1), height=100).data
    assert (trace.x, trace.y) == (("&lt;b&gt;x&lt;/b&gt;",), ("a &amp; b",))
