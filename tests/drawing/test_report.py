"""The one frame of the reports, filled with the smallest that one can be."""

from __future__ import annotations

import json

import pytest
from jinja2 import DictLoader

from tests.tools.report_page import held_to_the_design, unpacked
from ttr.drawing import html
from ttr.drawing.charts import curve, figure
from ttr.drawing.report import fragment, report, variants
from ttr.drawing.tables import Cell, Table

SMALLEST = """{% extends "report.html" %}{% block title %}{{ name }}{% endblock %}
{% block about %}about{% endblock %}
{% block figure %}{{ parts.figure("one", "label", "caption") }}{% endblock %}
{% block body %}<h2>First</h2>{{ parts.table(table) }}<h2>Second</h2>{% endblock %}"""
MADE = {"ttr": "1", "warning": "a warning", "disclaimer": "For research use only. Not a medical device."}


@pytest.fixture
def smallest(monkeypatch):
    """A template of the frame alone."""
    from jinja2 import ChoiceLoader

    environment = html._environment()
    loader = ChoiceLoader([DictLoader({"smallest.html": SMALLEST}), environment.loader])
    monkeypatch.setattr(environment, "loader", loader)


def drawn():
    return figure(curve([0, 1], [0.1, 0.2], "line", 0, ends=([0.0, 0.1], [0.2, float("nan")])))


@pytest.mark.usefixtures("smallest")
def test_a_report_is_the_answer_a_figure_and_tables(tmp_path):
    table = Table("caption", ("a", "b"), [("group", [["<x>", Cell("1", "[0, 2]", strong=True)]])])
    text = report(
        "smallest.html",
        answer="with <b> the answer is 5 %",
        made_with=MADE,
        charts={"one": drawn()},
        name="N",
        table=table,
    )
    (tmp_path / "index.html").write_text(text)
    page = held_to_the_design(tmp_path / "index.html")
    assert "With &lt;b&gt; the answer is 5\N{NO-BREAK SPACE}%." in text
    assert "&lt;x&gt;" in text
    assert '<strong>1</strong> <span class="around">[0, 2]</span>' in text
    links = [(own["href"], page.said(place)) for place, (tag, own, _) in enumerate(page.tags) if tag == "a"]
    assert links == [("#s0", "First"), ("#s1", "Second"), ("#made", "Made with")]
    assert "a warning" in text
    assert "· ttr 1<" in text
    assert "Different versions" not in text
    band, line = unpacked(text, "charts")["one"]["variants"][""]["data"]
    assert line["hovertext"] == [
        "<b>line</b>, block 0<br>0.100, 95 % interval [0.000, 0.200]",
        "<b>line</b>, block 1<br>0.200, no interval",
    ]
    assert band["x"] == [0, 0], "where there is an interval"


@pytest.mark.usefixtures("smallest")
def test_a_report_without_charts_carries_no_plotly():
    text = report(
        "smallest.html", answer="x", made_with=[MADE, MADE], charts={"one": None}, name="N", table=None
    )
    assert len(text) < 60_000
    assert "data-chart" not in text.partition("<script")[0]
    assert text.count("a warning") == 1 + 2, "once as a caution, and in what each was made with"


def test_equal_layouts_are_carried_once():
    found = variants([("a", drawn()), ("b", drawn())])
    assert [each["layout"] for each in found["variants"].values()] == [0, 0]
    assert len(found["layouts"]) == 1
    json.dumps(found)


def test_a_fragment_draws_what_is_there():
    found = fragment(
        "integration_section.html",
        {"attention": None, "kept": drawn()},
        models=[], fewest=0, likeness=None, attention=None, few=False,
        levels=dict.fromkeys(("amount", "own", "agreement", "deletion"), (0, 1)),
    )  # fmt: skip
    assert set(found.charts) == {"kept"}
    assert "Attention by size" not in found.html


@pytest.mark.usefixtures("smallest")
def test_results_of_different_versions_are_said_to_be():
    table = Table("caption", ("a",), [("", [["1"]])])
    made = [MADE, {**MADE, "ttr": "2"}]
    text = report("smallest.html", answer="a", made_with=made, charts={}, name="N", table=table)
    assert "· ttr 1, 2<" in text
    assert "made by ttr 1 and 2:" in text
