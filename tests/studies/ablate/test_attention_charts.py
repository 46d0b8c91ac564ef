"""Figures of where attention goes: what is drawn and what hover says are the tables' own numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from tests.tools.drawn import cell
from ttr.studies.ablate.attention_charts import attention_by_block, attention_flows, divergence_curves

GROUPS = ("cls", "registers", "patches")


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
