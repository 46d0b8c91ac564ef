"""The tab Attribution: what belongs to one image never stands beside another, or stays when it is gone."""

from __future__ import annotations

import gradio as gr
import pytest

from ttr.apps.image.intake import sample
from ttr.apps.image.workbench import Workbench
from ttr.apps.tabs import attribution as tab
from ttr.apps.tabs.events import Turn
from ttr.errors import ImageError, TTRError

#: Method, block, head, answer, class and words, as the page opens.
GIVEN = ("attention", 11, "mean of heads", None, "the highest before", "")


def skips(value):
    return isinstance(value, dict) and value == gr.skip()


@pytest.fixture(scope="module")
def workbench(phantom):
    return Workbench({"phantom": lambda: phantom})


@pytest.fixture(scope="module")
def chest(workbench):
    return workbench.memory.keep(workbench.case(sample("chest"), workbench.choose("phantom")))


@pytest.fixture(scope="module")
def fundus(workbench):
    return workbench.memory.keep(workbench.case(sample("fundus"), workbench.choose("phantom")))


def asked(workbench, case, marked=None, given=GIVEN):
    return tab._answered(workbench, case, None, marked, *given)


def boxed(workbench, case, held, corners=(100, 100, 300, 250)):
    return tab._boxed(workbench, case, held, None, *corners)


def test_a_box_adds_the_numbers_and_is_taken_away_with_them(workbench, chest):
    held, status, maps, numbers, export = asked(workbench, chest)
    assert status == ""
    assert "ttr-outline" not in maps
    assert "Draw a box" in numbers
    assert export == gr.update(interactive=True)
    marked, _, picture, *corners, maps, numbers = boxed(workbench, chest, held)
    assert corners == [100, 100, 300, 250]
    assert "ttr-outline" in maps
    assert "ttr-outline" in picture
    assert "energy in the outline" in numbers
    assert asked(workbench, chest, marked)[3] == numbers
    assert tab._exported(workbench, held, marked, "contours", 50.0, "smooth", "own", "linear").startswith(
        b"PK"
    )
    gone, _, picture, *corners, maps, numbers = tab._unmarked(workbench, chest, held, marked)
    assert (gone, corners) == (None, [None] * 4)
    assert all("ttr-outline" not in each for each in (maps, picture))
    assert "Draw a box" in numbers


def test_a_mask_outlines_its_own_picture_or_says_why_not(workbench, chest, fundus):
    own = sample("chest")
    outlined = tab._masked(workbench, chest, None, None, own)
    assert "mask of" in outlined[2]
    assert all(map(skips, outlined[-2:]))  # no map was asked yet
    with pytest.raises(ImageError, match="needed one size"):
        tab._masked(workbench, fundus, None, None, own)
    with pytest.raises(TTRError, match="damaged"):
        tab._masked(workbench, chest, None, None, TTRError("damaged"))


def test_another_image_has_neither_the_outline_nor_the_map_of_the_former(workbench, chest, fundus):
    held = asked(workbench, chest)[0]
    marked = boxed(workbench, chest, held)[0]
    assert "ttr-outline" not in asked(workbench, fundus, marked)[2]
    assert all(map(skips, boxed(workbench, fundus, held)[-2:]))
    stays = tab._entered(workbench, chest, held, marked, *GIVEN)
    assert all(map(skips, stays[:-1]))
    assert "ttr-outline" in stays[-1]
    anew = tab._entered(workbench, fundus, held, marked, *GIVEN)
    assert anew[0] is None
    assert (anew[2], anew[3]) == ("", "")
    assert "ttr-outline" not in anew[-1]
    gone = tab._entered(workbench, None, held, marked, *GIVEN)
    assert len(gone) == len(anew) == len(stays)
    assert (gone[0], gone[2], gone[3], gone[-1]) == (None, "", "", "")


def test_what_a_method_does_not_know_cannot_be_chosen(workbench, chest):
    method, block, head, kind, name, words, said = tab._in_force(workbench, chest, "rollout", *GIVEN[1:])
    assert not any(each["interactive"] for each in (block, head, kind, name, words))
    assert block["maximum"] == block["value"] == 5
    assert method["choices"] == ["attention", "value-attention", "rollout"]
    assert "neither can be chosen" in said
    assert "--head FILE" in said
    _, block, head, *answer, _ = tab._in_force(workbench, chest, "chefer", *GIVEN[1:])
    assert all(each["interactive"] for each in (block, head))  # it is not offered here: attention is
    assert not any(each["interactive"] for each in answer)


@pytest.fixture(scope="module")
def laid_out(workbench):
    with gr.Blocks() as blocks:
        case, chosen, turn = gr.State(None), gr.State(None), gr.State(Turn())
        with gr.Tab("Attribution") as own:
            emptied = tab.attribution_tab(workbench, case, chosen, turn, own)
    return blocks, emptied


def named(blocks, identity, trigger):
    """Return the event of a widget."""
    return next(
        event
        for event in blocks.fns.values()
        for widget, name in event.targets
        if (getattr(blocks.blocks.get(widget), "elem_id", None), name) == (identity, trigger)
    )


def test_no_late_map_or_mask_comes_after_its_image_was_taken_away(workbench, chest, laid_out, monkeypatch):
    blocks, _ = laid_out
    turn = Turn()
    run = named(blocks, "attribution-run", "click").fn
    assert not any(map(skips, run(turn, chest, None, None, *GIVEN)))
    passes = tab.attributed
    monkeypatch.setattr(tab, "attributed", lambda *a, **more: (turn.passes(), passes(*a, **more))[1])
    assert all(map(skips, run(turn, chest, None, None, *GIVEN)))
    read = named(blocks, "mask", "upload")
    masked = next(event.fn for event in blocks.fns.values() if event.trigger_after == read._id)
    monkeypatch.setattr(tab, "read_mask", lambda path: sample("chest"))
    came = read.fn(turn, "a path")
    assert not skips(masked(turn, chest, None, None, came)[0])
    turn.passes()
    late = masked(turn, chest, None, None, came)
    assert all(map(skips, late[:-1]))
    assert late[-1] is None


def test_everything_of_an_image_is_emptied_with_it(laid_out):
    blocks, emptied = laid_out
    assert len(emptied.outputs) == len(emptied.values)
    holds = {each._id for each in emptied.outputs}
    shows = [each for event in blocks.fns.values() for each in event.outputs if event.fn is not None]
    states = {each._id for each in shows if isinstance(each, gr.State)}
    told = {each._id for each in shows if isinstance(each, gr.HTML)}
    pictures = told - {each._id for each in shows if each.elem_id == "attribution-said"}
    corners = {each._id for each in shows if isinstance(each, gr.Number)}
    assert states | pictures | corners <= holds
    assert len(pictures) == 4
    assert len(states) == 3
    assert len(corners) == 4
    assert all(not value or value == gr.update(interactive=False) for value in emptied.values)
