"""Interactive figures: what is drawn and what hover says are the tables' own numbers."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest

from ttr.studies.ablate.attention_charts import attention_by_block, attention_flows, divergence_curves
from ttr.studies.ablate.layer_charts import layer_tasks, probing_curves, register_cosines
from ttr.studies.ablate.sentences import sentences
from ttr.studies.ablate.task_charts import ablation_heatmap, additivity_bars, effects_between, signed

NAN = float("nan")
CONDITIONS = ("full", "registers:zero", "registers:mean", "cls:mean", "patches-4:zero")
GROUPS = ("cls", "registers", "patches")


@pytest.fixture
def results():
    """Zeroing costs; the mean is not distinguishable; CLS costs the probe alone; mIoU lacks one condition."""
    changes = {"registers:zero": -0.6, "registers:mean": 0.01, "cls:mean": -0.5, "patches-4:zero": -0.004}
    rows = []
    for condition in CONDITIONS:
        for task, metric, full in (("probe", "top1", 0.9), ("segmentation", "miou", 0.7)):
            if (condition, metric) == ("patches-4:zero", "miou"):
                continue
            delta = changes.get(condition, 0.0)
            sure = delta < -0.1 and not (condition == "cls:mean" and metric == "miou")
            rows.append(
                {
                    "backbone": "tiny",
                    "dataset": "set",
                    "condition": condition,
                    "task": task,
                    "metric": metric,
                    "value": full + delta,
                    "ci_low": full + delta - 0.05,
                    "ci_high": full + delta + 0.05,
                    "n": 40,
                    "delta": delta,
                    "delta_ci_low": NAN if condition == "full" else delta - 0.03,
                    "delta_ci_high": NAN if condition == "full" else delta + 0.03,
                    "p": NAN if condition == "full" else 0.0001,
                    "p_holm": NAN if condition == "full" else 0.0004 if sure else 0.3,
                    "verdict": "" if condition == "full" else "lower" if sure else "not distinguishable",
                }
            )
    return pd.DataFrame(rows)


def cell(figure, row, column, name):
    trace = figure.data[0]
    return trace[name][list(trace.y).index(row)][list(trace.x).index(column)]


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
        "value 0.3000",
        "[0.2500, 0.3500]",
        "n = 40",
        "change -0.6000",
        "[-0.6300, -0.5700]",
        "p (Holm) = 0.0004: lower",
    ):
        assert said in text
    assert "p (Holm)" not in cell(ablation_heatmap(results, change=change), "full", "probe", "hovertext")


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
    assert "-70.00 points" in bars.hovertext[3]
    assert "[-80.00, -65.00]" in bars.hovertext[3]
    assert "p < 0.0001" in bars.hovertext[3]


@pytest.fixture
def attention():
    rows = []
    targets = (*GROUPS, "register-1", "register-2")
    places = itertools.product(("full", "cls:mean"), range(3), range(3), range(5))
    for condition, block, source, target in places:
        share = (1 + block + 10 * source + 100 * target + (condition == "full")) / 1000
        place = {"condition": condition, "block": block, "source": GROUPS[source], "target": targets[target]}
        rows.append({**place, "share": share, "ci_low": share - 0.001, "ci_high": share + 0.002, "n": 7})
    return pd.DataFrame(rows)


def test_nine_flows_and_each_registers_share_are_the_tables(attention):
    figure = attention_flows(attention, "cls:mean", 2)
    assert np.array(figure.data[0].z).shape == (3, 5)
    for source, target in itertools.product(range(3), range(5)):
        assert figure.data[0].z[source][target] == pytest.approx((3 + 10 * source + 100 * target) / 1000)
    text = cell(figure, "from patches", "register-2", "hovertext")
    assert "share 0.4230, 95 % interval [0.4220, 0.4250], n = 7" in text
    assert "block 2, cls:mean" in text
    assert len(figure.layout.shapes) == 1


def test_a_flow_that_is_not_there_is_a_gap(attention):
    figure = attention_flows(attention[attention.target != "cls"], "full", 0)
    assert figure.data[0].z[0][0] is None
    assert figure.data[0].text[0][0] == "–"


def test_flows_by_block_are_the_tables(attention):
    figure = attention_by_block(attention, "full", "registers")
    lines = {trace.name: trace for trace in figure.data if trace.name}
    assert set(lines) == {"CLS", "registers", "patches", "register-1", "register-2"}
    assert lines["patches"].x == (0, 1, 2)
    assert lines["patches"].y == pytest.approx([0.212, 0.213, 0.214])
    band = figure.data[[trace.name for trace in figure.data].index("patches") - 1]
    assert band.y == pytest.approx([0.214, 0.215, 0.216, 0.213, 0.212, 0.211])


def test_divergence_has_a_line_a_condition_but_full():
    rows = [
        {"condition": c, "block": b, "source": s, "js": j * b, "ci_low": j * b, "ci_high": j * b, "n": 5}
        for j, c in enumerate(("full", "registers:zero", "registers:mean", "test-time-1..2:zero", "bare"))
        for b in range(2)
        for s in GROUPS
    ]
    figure = divergence_curves(pd.DataFrame(rows), "patches")
    lines = {trace.name: trace for trace in figure.data if trace.name}
    assert set(lines) == {"registers:zero", "registers:mean", "test-time-1..2:zero", "bare"}
    assert lines["registers:mean"].y == (0, 2)
    assert lines["registers:zero"].line.color != lines["registers:mean"].line.color
    assert [lines[n].line.dash for n in lines] == ["solid", "solid", "dot", "longdash"]


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
    assert "accuracy 0.7500" in lines["CLS"].hovertext[1]
    assert "chance 0.250: p (Holm) = 0.0200" in lines["CLS"].hovertext[1]


def test_layers_and_cosines_are_the_tables():
    layers = pd.DataFrame(
        [{"block": b, "task": "segmentation", "metric": "miou", "value": b / 10, "n": 5} for b in range(3)]
    ).assign(ci_low=0.0, ci_high=0.4)
    line = layer_tasks(layers).data[1]
    assert (line.name, line.y) == ("mIoU", pytest.approx([0, 10, 20]))
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
    assert "cosine -0.5000" in cell(figure, "register-1", "test-time-1", "hovertext")


def test_effects_of_two_models_stand_beside_each_other():
    row = {"model_a": "A", "model_b": "B", "task": "probe", "metric": "top1", "condition": "registers:zero"}
    row |= {"effect_a": -0.3, "a_ci_low": -0.4, "a_ci_high": -0.1, "effect_b": -0.1, "b_ci_low": -0.2}
    row |= {"b_ci_high": 0.1, "difference": -0.2, "ci_low": -0.3, "ci_high": -0.1, "p_holm": 0.01, "n": 9}
    figure = effects_between(pd.DataFrame([{**row, "verdict": "lower"}]), "probe", "top1")
    assert [(t.name, t.x[0]) for t in figure.data] == [("A", pytest.approx(-30)), ("B", pytest.approx(-10))]
    assert figure.data[0].error_x.array == pytest.approx([20])
    assert "between models: -20.00, p (Holm) = 0.0100: lower" in figure.data[1].hovertext[0]


def test_the_sentences_say_what_the_numbers_say(results):
    found = sentences(results)
    assert found[0].startswith(
        "Zeroing the trained registers changes probe from 90.0 % to 30.0 % (−60.0 points"
    )
    assert "[−63.0, −57.0]" in found[0]
    assert "changes metrics by at most 1.0 points (registers:mean, probe: +1.0, [−2.0, +4.0])" in found[1]
    assert found[1].endswith("none of the 2 differences is distinguishable from zero.")
    assert found[2].startswith("Replacing CLS by its mean over images changes probe from 90.0 % to 40.0 %")
    assert found[2].endswith("mIoU not distinguishable.")
    assert found[3] == (
        "The control, zeroing 4 random patches of each image, leaves probe not distinguishable from the full "
        "model."
    )
    assert len(found) == 4
    assert sentences(results[results.condition == "full"]) == []


@pytest.mark.parametrize(
    ("p", "ends"), [(0.001, "over the sum."), (0.2, "over the sum, not distinguishable from zero.")]
)
def test_the_excess_is_called_one_only_if_it_is(results, p, ends):
    terms = {"register-1:zero": -0.1, "sum": -0.1, "collective": -0.6, "excess": -0.5}
    rows = [
        {"registers": "registers", "task": "probe", "metric": "top1", "term": t, "value": v, "p": p}
        for t, v in terms.items()
    ]
    table = pd.DataFrame(rows).assign(ci_low=lambda t: t.value - 0.01, ci_high=lambda t: t.value + 0.01)
    (text,) = [s for s in sentences(results, table) if "one at a time" in s]
    assert "by −10.0 points in sum, all at once by −60.0: −50.0 [−51.0, −49.0]" in text
    assert text.endswith(ends)
