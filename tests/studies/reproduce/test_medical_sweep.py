"""The curves over the number of registers: the table's numbers, a figure a cell, none of a single R."""

from __future__ import annotations

import numpy as np
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


def test_the_curves_are_the_tables_numbers_in_the_order_of_r(table, monkeypatch):
    monkeypatch.setattr(medical_sweep, "finish", lambda figure: figure)
    values, difference = medical_sweep.sweep_curves(table[table.dataset == "aptos"]).axes
    lines = {line.get_label(): line.get_xydata() for line in values.lines}
    assert lines["registers moved (R = 0: zeroed)"] == pytest.approx(np.array([[0, 0.5], [1, 0.6], [2, 0.7]]))
    assert lines["blank tokens (R = 0: bare)"] == pytest.approx(np.array([[0, 0.55], [1, 0.55], [2, 0.55]]))
    moved = np.array([[0, -0.05], [1, 0.05], [2, 0.15]])
    assert any(
        np.allclose(line.get_xydata(), moved) for line in difference.lines if len(line.get_xdata()) == 3
    )
    shaded = difference.collections[0].get_paths()[0].vertices[:, 1]
    assert (shaded.min(), shaded.max()) == (-0.2, 0.3)


def test_a_cell_has_a_figure_if_it_has_several_r(table):
    (found,) = sweeps_of(table)
    assert found["where"] == "clip-vit-b-16 on aptos, protocol ours"
    assert found["uri"].startswith("data:image/png")
    assert list(sweeps_of(None)) == []
