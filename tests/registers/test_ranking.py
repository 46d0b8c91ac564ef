"""A ranking held as arrays is what the tuple of its rows is, for whoever reads it."""

from __future__ import annotations

import copy
import json
import math
import pickle

import numpy as np
import pytest

from ttr.registers import ranking
from ttr.registers.neurons import Provenance, RankedNeuron, RegisterNeurons
from ttr.registers.ranking import Ranking

SCORES = np.array([[1.0, 3.0, 0.0], [2.0, 3.0, 0.5]])
ROWS = ((0, 1, 3.0), (1, 1, 3.0), (1, 0, 2.0), (0, 0, 1.0), (1, 2, 0.5), (0, 2, 0.0))


@pytest.fixture(params=[2, 1024])
def ranked(request, monkeypatch):
    monkeypatch.setattr(ranking, "PIECE", request.param)
    return Ranking.of_scores(SCORES)


def test_it_reads_like_the_tuple_of_its_rows(ranked):
    assert len(ranked) == 6
    assert tuple(ranked) == ROWS
    assert ranked == ROWS
    assert ranked == ROWS
    assert ranked != ROWS[:5]
    assert hash(ranked) == hash(ROWS)
    assert [ranked[place] for place in (0, 3, -1)] == [ROWS[0], ROWS[3], ROWS[-1]]
    assert ranked[1:4] == ROWS[1:4]
    assert {type(value) for row in (*ranked, ranked[2]) for value in row} == {int, float}
    assert (1, 0, 2.0) in ranked
    with pytest.raises(IndexError):
        ranked[6]


def test_pairs_are_chosen_best_first(ranked):
    assert ranked.pairs_where(SCORES >= 2) == [(0, 1), (1, 1), (1, 0)]
    assert ranked.pairs_where(SCORES > 9) == []


def test_copies_are_equal_and_another_ranking_is_not(ranked):
    assert pickle.loads(pickle.dumps(ranked)) == copy.deepcopy(ranked) == ranked
    assert ranked != Ranking.of_scores(SCORES + np.eye(2, 3))


def test_scores_that_were_not_measured_are_equal():
    arrays = np.array([1]), np.array([2]), np.array([np.nan])
    assert Ranking(*arrays) == Ranking(*arrays)
    assert Ranking(*arrays) == ((1, 2, math.nan),)


def test_a_set_with_arrays_is_the_set_with_tuples(ranked, tmp_path):
    source = Provenance(num_layers=2, num_neurons=3)
    lazy, plain = (RegisterNeurons(((0, 1),), rows, source) for rows in (ranked, ROWS))
    assert lazy == plain
    assert lazy.ranking == plain.ranking == [RankedNeuron(*row) for row in ROWS]
    assert lazy.top(2, max_layer=0) == plain.top(2, max_layer=0)
    assert lazy.top(2, max_layer=0).ranked is ranked
    for name, neurons in (("lazy", lazy), ("plain", plain)):
        neurons.save(tmp_path / name)
    assert (tmp_path / "lazy").read_bytes() == (tmp_path / "plain").read_bytes()
    assert json.loads((tmp_path / "lazy").read_text())["ranking"] == [list(row) for row in ROWS]
    assert RegisterNeurons.load(tmp_path / "lazy") == lazy


def test_the_best_are_taken_without_making_all_rows(monkeypatch):
    made = []
    monkeypatch.setattr(ranking, "_named", lambda score: made.append(score) or score)
    wide = Ranking.of_scores(np.random.default_rng(0).random((12, 3072)))
    assert len(RegisterNeurons((), wide, Provenance(num_layers=12)).top(20, 11)) == 20
    assert len(made) <= ranking.PIECE
