"""Which of the page's events wait for each other, and what becomes of what is refused."""

from __future__ import annotations

import gradio as gr
import pytest

import ttr
from ttr.apps.image.intake import sample
from ttr.apps.image.workbench import Workbench
from ttr.apps.page import page
from ttr.apps.tabs.compare import compare_tab
from ttr.apps.tabs.events import READING, Turn, done, guarded, in_this_turn, tried
from ttr.apps.tabs.opening import Opening
from ttr.errors import ImageError, TTRError


def refused():
    raise ImageError("this file is empty")


def broken():
    raise RuntimeError("/home/erika/muster.png")


def skips(value):
    return isinstance(value, dict) and value == gr.skip()


def test_a_refusal_is_a_value_for_the_event_after_it():
    assert done(tried(lambda: 3)) == 3
    with pytest.raises(ImageError, match="this file is empty"):
        done(tried(refused))
    found = tried(broken)
    assert isinstance(found, TTRError)
    assert "RuntimeError" in str(found)
    assert "muster" not in str(found)
    shown = guarded(lambda: done(found), 3)
    assert skips(shown[0])
    assert "RuntimeError" in shown[1]
    assert skips(shown[2])


def read(turn, value, asked):
    turn.reads(lambda: value, asked)
    found = turn.takes()
    return None if found is None else found.found


def test_of_files_that_are_read_at_once_the_last_that_was_given_counts():
    """Also where the one before is done last, and where both are done before either is shown."""
    turn = Turn()
    shown = []

    def slow():
        turn.reads(lambda: "second", 2.0)
        shown.append(turn.takes().found)
        return "first"

    turn.reads(slow, 1.0)
    assert shown == ["second"]
    assert turn.takes() is None
    assert read(turn, "third", 3.0) == "third"
    turn.reads(lambda: turn.reads(lambda: "fifth", 5.0), 4.0)
    assert turn.takes().found == "fifth"
    assert turn.takes() is None


def test_what_is_read_late_takes_not_the_turn_of_what_was_given_after_it():
    """A file was taken away and another given: which of the two is read first is chance."""
    turn = Turn()
    assert turn.empties(10.0)
    assert turn.empties(30.0)
    assert read(turn, "another", 30.0) == "another"
    reading = turn.last
    turn.reads(pytest.fail, 10.0)
    assert turn.last == reading


def test_no_choice_is_dropped_because_the_one_before_is_under_way():
    """What opens an image, shows it another way or loads a model; the library drops it by default."""
    blocks = page(Workbench())
    shows = {"work", "_opened", "_again", "_preset", "_typed", "picked", "given"}
    shows |= {"_taken_away", "_taken_away_with_file", "_emptied_for"}
    found = [fn for fn in blocks.fns.values() if fn.name in shows]
    assert {fn.name for fn in found} == shows
    assert {fn.trigger_mode for fn in found} == {"multiple"}


def test_no_pass_waits_for_a_picture_that_is_decoded():
    """What takes an uploaded picture is read beside the passes of the models; these take what was read."""
    blocks = page(Workbench())
    labels = {"Image (PNG, JPEG, TIFF or DICOM)", "Images to detect on, or none"}
    takes = [
        fn for fn in blocks.fns.values() if any(getattr(each, "label", None) in labels for each in fn.inputs)
    ]
    assert len(takes) == 2
    assert {fn.concurrency_id for fn in takes} == {READING["concurrency_id"]} != {"model"}
    assert {fn.concurrency_limit for fn in takes} == {2}


def test_an_answer_whose_image_was_taken_away_meanwhile_shows_nothing():
    turn = Turn()
    assert in_this_turn(lambda: ["map", "numbers"], turn, 2) == ["map", "numbers"]

    def slow():
        turn.passes()
        return ["map", "numbers"]

    assert all(map(skips, in_this_turn(slow, turn, 2)))


class Slow(Workbench):
    """Something happens while an image is in the model."""

    def case(self, picture, chosen):
        found = super().case(picture, chosen)
        self.meanwhile()
        return found


def test_what_is_emptied_late_takes_nothing_of_the_newer_image_away():
    """It was asked when a file was chosen, and is done when the file was read already."""
    turn = Turn()
    assert read(turn, "a picture", 20.0) == "a picture"
    reading = turn.last
    assert not turn.empties(10.0)
    assert not turn.empties(20.0)
    assert turn.last == reading
    assert turn.empties(30.0)
    assert turn.last != reading


@pytest.mark.parametrize("meanwhile", ["another is given", "nothing"])
def test_no_late_answer_of_an_image_comes_after_another_was_given(meanwhile):
    """The new one may never arrive: the page must not show the former one beside its name."""
    bench = Slow({"phantom": lambda: ttr.load("phantom", image_size=64)})
    with gr.Blocks() as blocks:
        case, chosen, turns = gr.State(None), gr.State(None), gr.State(Turn())
        opening = Opening(bench, compare_tab(bench, blocks, case, chosen), case, chosen, turns, [])
    turn, seen = Turn(), (None, 5, "mean of heads", "CLS")
    bench.meanwhile = (lambda: None) if meanwhile == "nothing" else (lambda: opening._taken_away(turn, 1.0))
    turn.reads(lambda: bench.memory.keep(sample("fundus")), 0.0)
    shown = opening._opened(turn, *seen)
    assert all(map(skips, shown)) == (meanwhile != "nothing")
    if meanwhile == "nothing":
        assert not all(map(skips, opening._again(turn, shown[0], *seen)))
        bench.meanwhile = turn.passes
        assert all(map(skips, opening._again(turn, shown[0], *seen)))
    turn.reads(lambda: bench.memory.keep(sample("fundus")), 2.0)
    turn.passes()
    assert all(map(skips, opening._opened(turn, *seen)))
