"""Run lengths against an encoder of our own, written after the format's description, and damaged texts."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tests.tools.made_sets import packed_runs
from ttr.datasets.run_lengths import mask_of_runs
from ttr.errors import ImageError


def test_a_mask_that_was_packed_by_hand():
    """Columns first: 3 pixels outside, 2 inside, 1 outside; each a group of its own."""
    mask = mask_of_runs({"size": [2, 3], "counts": "321"}, "it")
    assert mask.tolist() == [[False, False, True], [False, True, False]]


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_what_is_packed_is_read_again(mask):
    assert np.array_equal(mask_of_runs(packed_runs(mask), "it"), mask)


def test_long_runs_and_shrinking_ones_are_read():
    mask = np.zeros((900, 1000), dtype=bool)
    mask[:, 400:] = mask[7, 3] = mask[50:60, 10] = True
    assert np.array_equal(mask_of_runs(packed_runs(mask), "it"), mask)


@settings(max_examples=30)
@given(st.text(max_size=12))
def test_any_text_is_a_mask_or_refused(text):
    with suppress(ImageError):
        assert mask_of_runs({"size": [4, 5], "counts": text}, "it").shape == (4, 5)


@pytest.mark.parametrize(
    "packed",
    [
        *(None, [], {"size": [2, 3]}, {"size": [2], "counts": "321"}, {"size": [2, True], "counts": "321"}),
        *({"size": [0, 3], "counts": ""}, {"size": [99_999, 99_999], "counts": "1"}),
        {"size": [2, 3], "counts": 321},
    ],
)
def test_what_is_no_mask_is_refused(packed):
    with pytest.raises(ImageError, match="the mask of a is no mask; needed size"):
        mask_of_runs(packed, "the mask of a")


@pytest.mark.parametrize(
    ("text", "says"),
    [("32", "runs of 5 pixels; needed 2 x 3"), ("32P", "ends within"), ("3 1", "packs no run length")],
)
def test_damaged_runs_are_refused(text, says):
    with pytest.raises(ImageError, match=says):
        mask_of_runs({"size": [2, 3], "counts": text}, "it")
