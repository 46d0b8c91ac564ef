"""Two choices for one image: each pair on its own numbers, one scale where they are the same quantity."""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
import torch

import ttr
from tests.tools.tiny_models import tiny_vit
from ttr.apps.html import beside, charts, panels, takeaway
from ttr.apps.html.panels import Look
from ttr.apps.image.intake import sample
from ttr.apps.image.workbench import Chosen, Workbench
from ttr.errors import OptionError
from ttr.registers.neurons import RegisterNeurons
from ttr.wording import counted


def small_input(image):
    """Return a picture as the small model takes it, [3, 32, 32]."""
    return torch.from_numpy(np.array(image.convert("RGB").resize((32, 32)))).permute(2, 0, 1).float() / 255


@pytest.fixture(scope="module")
def bench():
    """Two phantoms of which the second has fewer blocks."""
    return Workbench(
        {
            "phantom": lambda: ttr.load("phantom", image_size=64),
            "small": lambda: ttr.adapt(tiny_vit().eval(), preprocess=small_input),
        }
    )


def second_of(bench, name, registers=None):
    blank = Chosen(name, "none", RegisterNeurons.from_pairs([]), num_registers=registers)
    return bench.case(sample("chest"), replace(bench.choose("phantom"), beside=blank))


def views(html):
    return [json.loads(unescape(each)) for each in re.findall(r"<ttr-view[^>]*data-json='([^']*)'", html)]


@pytest.fixture(scope="module")
def case(bench):
    return second_of(bench, "phantom", 3)


def test_a_second_set_of_neurons_of_one_model_shares_the_scale_and_the_place_of_the_first(case):
    look = Look(4, 1)
    attention, norms, colours = beside.maps(case, look)
    for html, maps in ((attention, panels.attention_maps), (norms, panels.norm_maps)):
        first, second = views(html)
        most = max(float(each.max()) for found in (case, case.beside) for each in maps(found, look))
        assert first["scale"]["shared"]["high"] == second["scale"]["shared"]["high"] == pytest.approx(most)
        assert "one scale for both choices" in first["scale"]["label"]
        assert (first["image"], first["picture"]) == (second["image"], second["picture"]), (
            "they move together"
        )
        assert first["maps"][0] == second["maps"][0], "the bare model is the same"
        assert first["maps"][1] != second["maps"][1]
    assert len(views(colours)) == 2
    assert "phantom, no neurons (none), 3 test-time registers, block 4" in attention


def test_the_lines_by_block_and_the_printed_pages_are_of_both_choices(bench, case):
    other = second_of(bench, "small")
    for found in (case, other):
        choices = beside.choices(found)
        assert [each for _, each in choices] == [found, found.beside]
        figure = charts.block_curves([(name, each.inspection.comparison) for name, each in choices])
        lines = {line.name: list(line.y) for line in figure.data if line.showlegend}
        for name, each in choices:
            compared = each.inspection.comparison
            assert tuple(lines[f"before, {name}"]) == compared.before.curves.max_patch_norm
            assert tuple(lines[f"after, {name}"]) == compared.after.curves.max_patch_norm
        assert len({line.line.dash for line in figure.data}) == 4, "told apart without colour"
        assert len(re.findall(rb"/Type /Page\b", takeaway.pdf_of(found, Look(1)))) == 2
    twice = replace(case, beside=replace(case, beside=None))
    assert [name for name, _ in beside.choices(twice)] == ["phantom", "phantom"], "nothing tells them apart"
    assert "<table" in beside.numbers(twice)
    alone = replace(case, beside=None)
    curves = charts.block_curves([("", alone.inspection.comparison)])
    assert [line.name for line in curves.data[:2]] == ["before", "after"]
    assert len(re.findall(rb"/Type /Page\b", takeaway.pdf_of(alone, Look(1)))) == 1


def test_each_choice_has_its_own_verdict_and_its_own_columns(case):
    assert beside.verdict(case).count("<p") == 2
    assert "No register neuron is moved, so “after” is the same model with 3 blank tokens" in beside.verdict(
        case
    )
    assert "“after” is the same model with 3 blank tokens." in case.beside.cautions[1]
    table = beside.numbers(case)
    found = [each.inspection.comparison for each in (case, case.beside)]
    held = [f"{view.register_attention:.3f}" for each in found for view in (each.before, each.after)]
    row = re.search(r"held by registers</th>(.*?)</tr>", table)[1]
    assert re.findall(r"<td>([^<]*)</td>", row) == held
    assert case.beside.num_registers == 3


def test_another_model_is_looked_at_where_it_can_be_on_a_scale_of_its_own(bench, case):
    small = bench.backbone("small")
    other = second_of(bench, "small")
    look = Look(99, 99, "test-time register 3")
    at = beside.clipped(look, other.beside)
    assert (at.layer, at.head, at.query) == (small.num_layers - 1, None, "CLS")
    norms = views(beside.maps(other, Look(0))[1])
    highs = [
        max(float(each.max()) for each in panels.norm_maps(found, Look(0))) for found in (other, other.beside)
    ]
    assert [each["scale"]["shared"]["high"] for each in norms] == pytest.approx(highs)
    assert not any("both" in each["scale"]["label"] for each in norms)
    for found in (case, replace(case, beside=None)):
        with pytest.raises(OptionError, match=r"block 99, head 99; needed a block 0\.\."):
            beside.by_block(found, look)


def test_without_a_second_choice_nothing_is_run_or_written(bench, monkeypatch):
    passes = []
    run = bench.case
    monkeypatch.setattr(bench, "case", lambda *asked: passes.append(asked) or run(*asked))
    alone = bench.case(sample("chest"), bench.choose("phantom"))
    assert len(passes) == 1
    assert alone.beside is None
    assert beside.maps(alone, Look(0)) == [
        *(panels.attention(alone, Look(0)), panels.norms(alone, Look(0)), panels.colours(alone, Look(0))),
    ]
    assert (beside.verdict(alone), beside.numbers(alone)) == (panels.verdict(alone), panels.numbers(alone))
    assert counted(alone.num_registers, "register") == "1 register"


def test_an_export_holds_both(case):
    archive = zipfile.ZipFile(io.BytesIO(takeaway.zip_of(case, Look(2))))
    assert {"norms-after.png", "beside-norms-after.png"} <= set(archive.namelist())
    found = json.loads(archive.read("numbers.json"))
    assert found["neurons"]["count"] > 0 == found["beside"]["neurons"]["count"]
