"""The images used last are kept as far as they fit, and whose made room is told."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from ttr.apps.image.memory import NO_IMAGE, Memory, seen, size_of, value_of
from ttr.errors import OptionError


@dataclass(frozen=True, eq=False)
class Case:
    array: np.ndarray
    pictures: tuple[Image.Image, ...] = ()


def case(size):
    return Case(np.zeros(size, np.uint8))


def test_a_size_is_that_of_each_array_and_picture_once():
    picture = Image.new("RGB", (10, 20))
    array = np.zeros((4, 5), np.float32)
    assert size_of((Case(array, (picture, picture)), array, "text", None)) == 80 + 600


def test_the_least_recently_used_makes_room_and_its_visitor_is_told():
    memory = Memory(100)
    first, second = memory.keep(case(40)), memory.keep(case(40))
    assert first.used() is first.seen
    third = memory.keep(case(40))
    assert [seen(each) is None for each in (first, second, third)] == [False, True, False]
    with pytest.raises(OptionError, match="yours made room for others; upload it again"):
        value_of(second)
    large = memory.keep(case(1000))
    assert [seen(each) is None for each in (first, third, large)] == [True, True, False]
    with pytest.raises(OptionError, match=NO_IMAGE):
        value_of(None)
    assert seen(None) is None


def test_what_a_session_lets_go_is_kept_by_nothing_else():
    memory = Memory(100)
    held = case(40)
    kept, gone = memory.keep(held), weakref.ref(held)
    del held, kept
    gc.collect()
    assert gone() is None
    assert all(seen(memory.keep(each)) is each for each in (case(90), case(90)))
