"""The curves over the number of registers: the table's numbers, a figure a cell, none of a single R."""

from __future__ import annotations

import pandas as pd
import pytest

from ttr.studies.reproduce import medical_sweep
from ttr.studies.reproduce.medical_page import sweeps_of


@pytest.fixture
def table():
    """Two sets, R = 2, 0, 1 out of order; of the second, one R alone."""
    rows = []
    for dataset, counts in (("aptos", (2, 0, 1)), ("orthonet", (1,))):
        for count in counts:
            row = {"backbone": "clip-vit-b-16", "dataset": dataset, "protocol": "ours"}
            row |= {
                "first_registers": count,
                "difference": 0.1 * count - 0.05,
                "ci_low": -0.2,
                "ci_high": 0.3,
            }
            for side, value in (("first", 0.5 + 0.1 * count), ("second", 0.55)):
                row |= {f"{side}_value": value, f"{side}_low": value - 0.1, f"{side}_high": value + 0.1}
            rows.append(row)
    return pd.DataFrame(rows)


def test_the_curves_are_the_tables_numbers_in_the_order_of_r(table):
    figures = medical_sweep.sweep_curves(table[table.dataset == "aptos"])
    lines = {trace.name: trace for trace in figures["values"].data if trace.name}
    moved, blank = lines["registers moved (R = 0: zeroed)"], lines["blank tokens (R = 0: bare)"]
    assert (moved.x, blank.x) == ((0, 1, 2), (0, 1, 2))
    assert moved.y == pytest.approx([50, 60, 70])
    assert blank.y == pytest.approx([55, 55, 55])
    shaded, line = figures["difference"].data
    assert line.y == pytest.approx([-5, 5, 15])
    assert (min(shaded.y), max(shaded.y)) == pytest.approx((-20, 30))


def test_a_cell_has_figures_if_it_has_several_r(table):
    (found,) = sweeps_of(table)
    assert found["where"] == "clip-vit-b-16 on aptos, protocol ours"
    assert len(found["charts"]) == 2
    assert list(sweeps_of(None)) == []
