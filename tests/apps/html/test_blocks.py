"""All blocks' maps as they are sent with a case: each block is what a view of it would be."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr
import numpy as np
import pytest

from tests.tools.views import every_block, views
from ttr.apps.html import panels
from ttr.apps.html.blocks import all_blocks
from ttr.apps.html.panels import Look
from ttr.apps.image.intake import sample
from ttr.apps.image.workbench import Workbench
from ttr.apps.tabs import compare


@pytest.fixture(scope="module")
def case(phantom):
    bench = Workbench({"phantom": lambda: phantom})
    return bench.case(sample("chest"), bench.choose("phantom"))


@pytest.mark.parametrize("look", [Look(2), Look(0, 1, "test-time register 1")])
def test_each_block_is_the_view_of_it(case, look):
    (found,) = every_block(all_blocks(case, look))
    for draw in (panels.attention, panels.norms):
        for layer in range(case.inspection.layers):
            (shown,) = views(draw(case, replace(look, layer=layer)))
            assert shown["at"] == [layer, found["called"]]
            its = found["views"][shown["name"]][layer]
            assert its["alts"] == shown["alts"]
            assert its["scale"] == {key: shown["scale"][key] for key in ("shared", "own")}
            for name, maps in (
                (shown["name"], shown["maps"]),
                *((each["name"], each["maps"]) for each in shown["beside"]),
            ):
                for sent, seen in zip(found["maps"][name][layer], maps, strict=True):
                    np.testing.assert_array_equal(sent, None if seen is None else seen.ravel())


def test_what_is_called_alike_is_of_one_case_head_and_query(case):
    called = {every_block(all_blocks(case, look))[0]["called"] for look in (Look(0), Look(3))}
    assert len(called) == 1
    others = [Look(0, 1), Look(0, None, "test-time register 1")]
    called |= {every_block(all_blocks(case, look))[0]["called"] for look in others}
    assert len(called) == 3


def test_beside_a_second_choice_there_are_none(case):
    assert all_blocks(replace(case, beside=case), Look(0)) == ""


def test_the_answer_to_another_block_carries_neither_colours_nor_all_blocks_again(case):
    whole, other = compare.maps(case, Look(1)), compare.at_block(case, Look(1))
    assert other[:2] == whole[:2]
    assert other[2:] == [gr.skip()] * 2
    assert compare.looked(case, Look(1))[3] == whole[3]
