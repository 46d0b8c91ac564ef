import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttr.errors import NeuronsError, OptionError
from ttr.neurons import Provenance, RankedNeuron, RegisterNeurons

pairs = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5000)), unique=True, max_size=40)


def ranked() -> RegisterNeurons:
    rows = tuple(
        RankedNeuron(layer, neuron, 10.0 - i)
        for i, (layer, neuron) in enumerate([(2, 7), (5, 1), (0, 3), (2, 1), (4, 4)])
    )
    source = Provenance(
        backbone="phantom", num_layers=6, num_neurons=768, image_size=(224, 224), threshold="auto"
    )
    return RegisterNeurons(((2, 7), (5, 1)), rows, source, "2 kept")


@given(pairs)
def test_from_pairs_keeps_order_and_survives_the_disk(tmp_path_factory, given_pairs):
    neurons = RegisterNeurons.from_pairs(given_pairs)
    path = tmp_path_factory.mktemp("neurons") / "neurons.json"
    neurons.save(path)
    loaded = RegisterNeurons.load(path)
    assert loaded.pairs == neurons.pairs == given_pairs
    assert all(math.isnan(r.score) for r in loaded.ranking)
    flat = [(layer, n) for layer, row in neurons.by_layer().items() for n in row]
    assert sorted(flat) == sorted(given_pairs)


def test_save_and_load_give_the_same_set(tmp_path):
    path = tmp_path / "deep" / "neurons.json"
    ranked().save(path)
    assert RegisterNeurons.load(path) == ranked()
    assert [p.name for p in path.parent.iterdir()] == ["neurons.json"]


def test_top_takes_the_best_within_a_layer_limit():
    assert ranked().top(3).pairs == [(2, 7), (5, 1), (0, 3)]
    assert ranked().top(3, max_layer=2).pairs == [(2, 7), (0, 3), (2, 1)]
    assert ranked().top(0).pairs == []
    assert ranked().top(99).pairs == [(r.layer, r.neuron) for r in ranked().ranking]
    assert ranked().top(2, max_layer=2).provenance.top_layer == 2
    with pytest.raises(OptionError, match="k=-1"):
        ranked().top(-1)


@pytest.mark.parametrize("bad", [(1,), (1, 2, 3), (-1, 2), (1, -2), ("a", 1), (1.5, 2), 7, None])
def test_pairs_that_are_none_are_refused(bad):
    with pytest.raises(NeuronsError, match="needed a pair"):
        RegisterNeurons.from_pairs([(0, 0), bad])


def test_a_neuron_listed_twice_is_refused():
    with pytest.raises(NeuronsError, match=r"\(1, 2\) is listed twice"):
        RegisterNeurons.from_pairs([(1, 2), (3, 4), (1, 2)])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "no register-neurons file"),
        ("[]", "no register-neurons file"),
        ('{"schema": "ttr.register-neurons/2", "pairs": []}', "schema"),
        ('{"schema": "ttr.register-neurons/1", "pairs": [[0, -1]]}', "pairs.0.1"),
        ('{"schema": "ttr.register-neurons/1", "pairs": [], "run": "rm"}', "run"),
        ('{"schema": "ttr.register-neurons/1", "pairs": [[1, 1], [1, 1]]}', "twice"),
    ],
)
def test_a_file_that_is_none_is_refused_by_name(tmp_path, content, complaint):
    path = tmp_path / "neurons.json"
    path.write_text(content)
    with pytest.raises(NeuronsError, match=complaint):
        RegisterNeurons.load(path)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(NeuronsError, match="ttr detect"):
        RegisterNeurons.load(tmp_path / "none.json")


def test_scores_that_were_not_measured_are_null_on_disk(tmp_path):
    RegisterNeurons.from_pairs([(1, 2)]).save(tmp_path / "n.json")
    assert json.loads((tmp_path / "n.json").read_text())["ranking"] == [[1, 2, None]]
