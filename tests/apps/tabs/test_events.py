"""Which of the page's events wait for each other, and what becomes of what is refused."""

from __future__ import annotations

import gradio as gr
import pytest

from ttr.apps.image.workbench import Workbench
from ttr.apps.page import page
from ttr.apps.tabs.events import READING, Turn, done, guarded, read_in_turn, tried
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


def test_of_files_that_are_read_at_once_the_last_that_was_given_counts():
    turn = Turn()

    def slow():
        assert read_in_turn(lambda: "second", turn) == "second"
        return "first"

    assert skips(read_in_turn(slow, turn))
    assert read_in_turn(lambda: "third", turn) == "third"


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
