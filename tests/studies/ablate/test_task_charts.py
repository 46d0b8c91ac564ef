"""Figures of the tasks: what is drawn and what hover says are the tables' own numbers."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from tests.tools.drawn import CONDITIONS, cell
from ttr.studies.ablate.task_charts import ablation_heatmap, additivity_bars, effects_between, signed


def test_the_heatmap_holds_the_table_raw_and_as_change(results):
    raw, change = ablation_heatmap(results), ablation_heatmap(results, change=True)
    assert list(raw.data[0].y) == list(CONDITIONS)
    assert list(raw.data[0].x) == ["probe", "mIoU"]
    assert cell(raw, "registers:zero", "probe", "z") == pytest.approx(30)
    assert cell(raw, "registers:zero", "mIoU", "text") == "10.0"
    assert cell(change, "registers:zero", "probe", "z") == pytest.approx(-60)
    assert cell(change, "registers:zero", "probe", "text") == "<b>−60.0</b>"
    assert cell(change, "registers:mean", "probe", "text") == "+1.0"
    assert cell(change, "full", "probe", "text") == "–"
    assert (raw.data[0].zmin, raw.data[0].zmax) == (0, 100)
    assert change.data[0].zmin == -change.data[0].zmax == pytest.approx(-60)
    assert cell(raw, "patches-4:zero", "mIoU", "z") is None
    assert cell(raw, "patches-4:zero", "mIoU", "hovertext") == "not measured"


@pytest.mark.parametrize("change", [False, True])
def test_hover_gives_value_interval_p_and_verdict(results, change):
    text = cell(ablation_heatmap(results, change=change), "registers:zero", "probe", "hovertext")
    for said in (
        "30.00 %",
        "[25.00, 35.00]",
        "n = 40",
        "change −60.00 points",
        "[−63.00, −57.00]",
        "p < .001 (Holm): lower",
    ):
        assert said in text
    assert "(Holm)" not in cell(ablation_heatmap(results, change=change), "full", "probe", "hovertext")


def test_a_table_of_full_alone_draws(results):
    alone = results[results.condition == "full"]
    figure = ablation_heatmap(alone, change=True)
    assert cell(figure, "full", "probe", "z") == 0
    assert json.loads(figure.to_json())["data"][0]["zmax"] > 0


def test_signs_are_shown_and_nothing_is_not_negative():
    assert [signed(v) for v in (-0.0004, 0.0004, -0.1234, 0.1234)] == ["0.0", "0.0", "−12.3", "+12.3"]


def test_additivity_bars_hold_each_term_with_its_interval():
    terms = {
        "register-1:zero": -0.1,
        "register-2:zero": -0.2,
        "sum": -0.3,
        "collective": -0.7,
        "excess": -0.4,
    }
    table = pd.DataFrame(
        [
            {
                "registers": "registers",
                "task": "probe",
                "metric": metric,
                "term": term,
                "value": value,
                "ci_low": value - 0.1,
                "ci_high": value + 0.05,
                "p": 0.00001,
            }
            for metric in ("top1", "top1_own")
            for term, value in terms.items()
        ]
    )
    bars = additivity_bars(table, "registers", "probe", "top1").data[0]
    assert dict(zip(bars.y, np.round(bars.x, 6), strict=True)) == {
        "register-1": -10,
        "register-2": -20,
        "sum of single ones": -30,
        "all at once": -70,
        "all − sum": -40,
    }
    assert bars.error_x.array == pytest.approx([5] * 5)
    assert bars.error_x.arrayminus == pytest.approx([10] * 5)
    assert "−70.00 points" in bars.hovertext[3]
    assert "[−80.00, −65.00]" in bars.hovertext[3]
    assert "p < .001" in bars.hovertext[3]


def test_effects_of_two_models_stand_beside_each_other():
    row = {"model_a": "A", "model_b": "B", "task": "probe", "metric": "top1", "condition": "registers:zero"}
    row |= {"effect_a": -0.3, "a_ci_low": -0.4, "a_ci_high": -0.1, "effect_b": -0.1, "b_ci_low": -0.2}
    row |= {"b_ci_high": 0.1, "difference": -0.2, "ci_low": -0.3, "ci_high": -0.1, "p_holm": 0.01, "n": 9}
    figure = effects_between(pd.DataFrame([{**row, "verdict": "lower"}]), "probe", "top1")
    assert [(t.name, t.x[0]) for t in figure.data] == [("A", pytest.approx(-30)), ("B", pytest.approx(-10))]
    assert figure.data[0].error_x.array == pytest.approx([20])
    assert "between models: −20.00 points, p = .010 (Holm): lower" in figure.data[1].hovertext[0]
