"""The images that choose a probe's strength share no patient with those it learns from."""

from __future__ import annotations

import numpy as np
import pytest

from ttr.evaluate.probe import Labelled
from ttr.studies.integrate.tables import _fifths


def split(y, groups=None):
    """Return the places that are learnt from, and those held."""
    y = np.asarray(y)
    kept, held = _fifths(Labelled(np.arange(len(y), dtype=np.float32)[:, None], y), groups)
    return kept.x[:, 0].astype(int).tolist(), held.x[:, 0].astype(int).tolist()


def test_without_groups_it_is_the_last_fifth_of_each_class():
    kept, held = split([0] * 10 + [1] * 5)
    assert held == [8, 9, 14]
    assert sorted(kept + held) == list(range(15))


@pytest.mark.parametrize("each", [2, 3, 5])
def test_no_patient_is_on_both_sides(each):
    y = [0] * 30 + [1] * 30
    groups = [f"p{i // each}" for i in range(60)]
    kept, held = split(y, groups)
    assert not {groups[i] for i in kept} & {groups[i] for i in held}
    assert sorted(kept + held) == list(range(60))
    for label in (0, 1):
        assert 6 <= sum(y[i] == label for i in held) < 6 + each
        assert any(y[i] == label for i in kept)


def test_a_class_of_one_patient_stays_where_it_is_learnt():
    kept, held = split([0] * 10 + [1] * 4, ["a"] * 5 + ["b"] * 5 + ["c"] * 4)
    assert held == [5, 6, 7, 8, 9]
    assert kept == [0, 1, 2, 3, 4, 10, 11, 12, 13]
    # Nobody can be held: what is learnt from chooses.
    everything = list(range(4))
    assert split([0, 0, 1, 1], ["a", "a", "b", "b"]) == (everything, everything)
