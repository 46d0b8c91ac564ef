"""A stack that is open: its slices are its visitor's alone, cases seen last stay, and all goes at once."""

from __future__ import annotations

import gc
import io
import weakref

import numpy as np
import pytest
from PIL import Image

from ttr.apps.image import stack as stacks
from ttr.apps.image.decoding import compact
from ttr.apps.image.handed_out import HandedOut, Thumbnails
from ttr.apps.image.memory import Memory, seen
from ttr.apps.image.stack import OpenStack, Slice, Stack
from ttr.datasets.dicom.radiograph import Radiograph, Window
from ttr.errors import OptionError

COMMON = {"aspect": 1.0, "burned_in": False, "modality": "CT"}
NARROW = Window("narrow", 0, 100)


def made(count=4, side=20):
    """Return a stack in which each slice has values of its own."""
    slices = []
    for n in range(count):
        values = np.arange(side * side, dtype=np.int16).reshape(side, side) - 1000 + n
        ends = float(values.min()), float(values.max())
        behind = Radiograph(values, (), (side, side), range=ends, **COMMON)
        slices.append(Slice(f"{n}.dcm", None, str(n), "DICOM", behind))
    return Stack("abc", tuple(slices), "by name", 0, None)


@pytest.fixture
def opened():
    return OpenStack(Memory(), made(), "visitor-me")


def test_a_slice_is_fetched_as_it_is_shown_and_with_the_values_behind_it_by_its_visitor_alone(opened):
    out = HandedOut()
    place, is_new = opened.place(None, lambda *asked: out.slices(opened.visitor, *asked))
    root, name, end = place.split("/")
    assert (root, end, is_new) == ("pictures", "", True)
    for index in range(4):
        image = np.asarray(Image.open(io.BytesIO(out.png("visitor-me", name, str(index)))))
        np.testing.assert_array_equal(image, np.asarray(opened.stack.picture(index).image)[..., 0])
        high, low, _ = np.moveaxis(
            np.asarray(Image.open(io.BytesIO(out.png("visitor-me", name, f"{index}v")))), -1, 0
        )
        np.testing.assert_array_equal(256 * high.astype(int) + low, np.arange(400).reshape(20, 20))
    assert [out.png("visitor-me", name, each) for each in ("4", "-1", "v", "1x", "²", "")] == [None] * 6
    assert out.png("visitor-you", name, "1") is None
    assert out.png("visitor-me", name[::-1], "1") is None
    assert opened.place(None, pytest.fail) == (place, False)
    other, _ = opened.place(NARROW, lambda *asked: out.slices(opened.visitor, *asked))
    assert out.png("visitor-me", name, "1") is None, "of another window nothing is found any more"
    narrow = np.asarray(Image.open(io.BytesIO(out.png("visitor-me", other.split("/")[1], "1"))))
    np.testing.assert_array_equal(narrow, np.asarray(opened.stack.picture(1, NARROW).image)[..., 0])
    opened.close()
    assert out.png("visitor-me", other.split("/")[1], "1") is None
    with pytest.raises(OptionError):
        opened.stack  # noqa: B018


def test_what_a_slice_draws_of_itself_is_not_kept_with_its_stack(opened):
    drawn = weakref.ref(opened.stack.picture(0).image)
    gc.collect()
    assert drawn() is None


def test_the_cases_of_the_slices_seen_last_stay_for_one_choice_and_one_window(opened, monkeypatch):
    monkeypatch.setattr(stacks, "MOST_CASES", 2)
    asked = []

    def case(index, choice="plain", window=None):
        picture = opened.stack.picture(index, window)
        return opened.case(picture, choice, lambda: asked.append((index, window)) or np.zeros(3))

    first = case(0)
    assert case(0) is first
    case(0, window=NARROW)
    assert asked == [(0, None), (0, NARROW)]
    case(1)
    assert case(0) is not first, "two stay"
    del asked[:]
    case(1, "another model")
    case(1, "another model")
    assert asked == [(1, None)]
    held = case(1, "another model")
    held.let_go()  # as a full memory does
    assert case(1, "another model") is not held
    kept = opened.kept
    opened.close()
    assert seen(kept) is None


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0.0, 255.0], "u1"),
        ([-1024.0, 3071.0], "i2"),
        ([0.0, 65535.0], "u2"),
        ([0.5, 1.0], "f8"),
        ([1e12, 0.0], "f8"),
    ],
)
def test_values_are_kept_as_small_as_they_are_exact(values, kind):
    found = compact(np.array(values))
    assert found.dtype == np.dtype(kind)
    np.testing.assert_array_equal(found, values)


def test_thumbnails_are_found_by_number():
    thumbs, out = Thumbnails(), HandedOut()
    thumbs.by_number[7] = b"png"
    name = out.hand_out("me", thumbs).split("/")[1]
    assert [out.png("me", name, each) for each in ("7", "8", "x")] == [b"png", None, None]
    del thumbs
    assert out.png("me", name, "7") is None, "what its session lets go is kept by nothing else"
