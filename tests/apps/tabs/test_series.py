"""A stack on the page, without a browser: what is shown belongs to its slice, and all goes with its files."""

from __future__ import annotations

from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

import ttr
from tests.tools.dicom_files import write
from tests.tools.readers_here import ReadersHere
from ttr.apps.html.panels import Look
from ttr.apps.html.takeaway import named, numbers
from ttr.apps.image import intake, series, stack
from ttr.apps.image.memory import seen
from ttr.apps.image.series import given
from ttr.apps.image.stack import OpenStack
from ttr.apps.image.workbench import Workbench
from ttr.apps.tabs import opening as opening_tab
from ttr.apps.tabs.compare import compare_tab
from ttr.apps.tabs.events import Turn
from ttr.apps.tabs.opening import Opening
from ttr.apps.tabs.series import of_label
from ttr.errors import ImageError

AXIAL = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "SeriesInstanceUID": "1.2.3", "Modality": "CT"}
SEEN = (5, "mean of heads", "CLS")
ME = SimpleNamespace(state=SimpleNamespace(visitor=SimpleNamespace(name="visitor-me")))


@pytest.fixture(scope="module", autouse=True)
def here():
    """Files are decoded in this process; what readers add is tested beside them."""
    with pytest.MonkeyPatch.context() as patched:
        for module in (series, stack, intake):
            patched.setattr(module, "READERS", ReadersHere())
        yield


@pytest.fixture(scope="module")
def page():
    """The tab Compare over a small phantom, with one output of another tab."""
    bench = Workbench({"phantom": lambda: ttr.load("phantom", image_size=64)})
    with gr.Blocks() as blocks:
        case, chosen, turns = gr.State(None), gr.State(None), gr.State(Turn())
        other = SimpleNamespace(outputs=[gr.HTML()], values=["empty"])
        return Opening(bench, compare_tab(bench, blocks, case, chosen), case, chosen, turns, [other])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    pixels = np.random.default_rng(0).integers(0, 2000, (4, 32, 32)).astype(np.uint16)
    shown = {"WindowCenter": 900, "WindowWidth": 1500, **AXIAL}
    paths = [
        write(folder / f"{n}.dcm", each, ImagePositionPatient=[0, 0, -n], **shown)
        for n, each in enumerate(pixels[:3])
    ]
    paths.append(write(folder / "other.dcm", pixels[3], **{**AXIAL, "SeriesInstanceUID": "9"}))
    return [{"path": str(path)} for path in paths]


@pytest.fixture
def shown(page, files):
    """Return what a turn shows of the files once they are read, and the turn."""
    turn = Turn()
    turn.reads(lambda: page._kept(opening_tab._uploaded(files), ME), 1.0)
    choice = page.workbench.choose("phantom")
    return turn, page._opened(turn, choice, *SEEN), choice


def case_of(values):
    return seen(values[0])


def test_the_largest_series_is_shown_and_the_others_are_offered_in_true_words(page, shown):
    turn, values, _ = shown
    part = case_of(values).picture.slice
    assert (part.index, part.of, part.stack) == (1, 3, turn.stack.identity)
    assert case_of(values).picture.name == "1.dcm"
    box = values[len(page.shown) - 5 : len(page.shown)]
    assert "4 files of 2 series were given together; one is shown." in box[2]
    assert box[3]["choices"] == ["CT, 32 × 32, 3 images", "CT, 32 × 32, 1 image"]
    assert "3 images, by their place in the patient." in box[4]
    read = opening_tab._of_series(box[0], "CT, 32 × 32, 1 image")
    assert read.found.name == "other.dcm"
    assert read.found.slice is None
    with pytest.raises(ImageError, match="not here any more"):
        of_label(None, "CT")


def test_another_slice_comes_in_the_same_window_once_and_empties_the_other_tabs(page, shown, monkeypatch):
    turn, values, choice = shown
    typed = page._typed(500, 200, turn, values[0], choice, *SEEN)
    assert "ttr-stack role" in typed[-1], "in another window slices are fetched anew"
    passes = []
    run = page.workbench.case
    monkeypatch.setattr(page.workbench, "case", lambda *asked: passes.append(asked) or run(*asked))
    found = page._sliced(turn, typed[0], choice, *SEEN, 2)
    assert case_of(found).picture.name == "0.dcm"
    assert (case_of(found).picture.window.center, case_of(found).picture.window.width) == (500, 200)
    assert found[-1] == "empty"
    assert found[len(page.shown) - 1] == gr.skip()
    again = page._sliced(turn, found[0], choice, *SEEN, 2)
    assert again[0] is found[0]
    assert len(passes) == 1
    far = page._sliced(turn, again[0], choice, *SEEN, 99)
    assert far[0] is found[0], "beyond the last is the last"
    exported = numbers(case_of(found), Look(0))
    assert exported["window"] == [500, 200]
    assert exported["image_file"]["slice"] == [3, 3]
    assert "0.dcm, slice 3 of 3, window 500 / 200, SHA-256" in named(case_of(found))


def test_with_its_files_the_stack_goes_and_no_slice_of_it_comes_any_more(page, shown):
    turn, values, choice = shown
    opened = turn.stack
    assert isinstance(opened, OpenStack)
    page._taken_away(turn, 2.0)
    assert turn.stack is None
    assert seen(opened.kept) is None
    late = page._sliced(turn, values[0], choice, *SEEN, 0)
    assert late == [gr.skip()] * len(page.all)


def test_a_choice_among_series_stays_while_the_page_is_emptied(page):
    values = page._series_taken_away(Turn(), 1.0)
    assert len(values) == len(page.all)
    box = values[len(page.shown) - 5 : len(page.shown)]
    assert box == [*[gr.skip()] * 4, ""]
    assert values[0] is None
    assert values[-1] == "empty"


def test_files_that_are_given_alone_are_no_stack(files):
    taken = opening_tab._uploaded(files[3:])
    assert (taken.found.name, taken.found.slice) == ("other.dcm", None)
    assert len(given([files[3]["path"]]).series) == 1
    assert opening_tab._uploaded(None) is opening_tab._uploaded([]) is None
