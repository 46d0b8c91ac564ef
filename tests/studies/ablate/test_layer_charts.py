"""Figures by block: what is drawn and what hover says are the tables' own numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.tools.drawn import cell
from ttr.studies.ablate.layer_charts import layer_tasks, probing_curves, register_cosines


def test_probing_curves_show_accuracy_interval_and_chance():
    rows = [
        {
            "block": b,
            "token": t,
            "accuracy": a + b / 20,
            "ci_low": a,
            "ci_high": a + 0.3,
            "chance": 0.25,
            "n": 9,
        }
        for b in (0, 5)
        for t, a in (("cls", 0.5), ("register-1", 0.3))
    ]
    figure = probing_curves(pd.DataFrame(rows).assign(p=0.01, p_holm=0.02))
    lines = {trace.name: trace for trace in figure.data if trace.name}
    assert lines["CLS"].y == pytest.approx([50, 75])
    assert lines["register-1"].x == (0, 5)
    assert lines["chance, 25.0 %"].y == (25, 25)
    assert "75.0 %, 95 % interval" in lines["CLS"].hovertext[1]
    assert "chance 25.0 %: p = .020 (Holm)" in lines["CLS"].hovertext[1]


def test_layers_and_cosines_are_the_tables():
    layers = pd.DataFrame(
        [{"block": b, "task": "segmentation", "metric": "miou", "value": b / 10, "n": 5} for b in range(3)]
    ).assign(ci_low=0.0, ci_high=0.4)
    line = layer_tasks(layers).data[1]
    assert (line.name, line.y) == ("mIoU", pytest.approx([0, 10, 20]))
    assert "10.0 %, 95 % interval [0.0, 40.0]" in line.hovertext[1], "in the axis's unit"
    names = ("register-1", "test-time-1")
    cosines = pd.DataFrame(
        [
            {"first": a, "second": b, "cosine": 1.0 if a == b else -0.5, "ci_low": -0.6, "ci_high": 1, "n": 4}
            for a in names
            for b in names
        ]
    )
    figure = register_cosines(cosines)
    assert np.array_equal(np.array(figure.data[0].z, float), [[1, -0.5], [-0.5, 1]])
    assert figure.data[0].zmin == -0.5
    assert "cosine −0.5000" in cell(figure, "register-1", "test-time-1", "hovertext")
