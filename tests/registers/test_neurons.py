import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ttr.errors import NeuronsError, OptionError
from ttr.registers import neurons as neurons_module
from ttr.registers.neurons import Provenance, RankedNeuron, RegisterNeurons

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


@pytest.mark.parametrize(
    "bad",
    [
        *((1,), (1, 2, 3), (-1, 2), (1, -2), ("a", 1), (1.5, 2), 7, None),
        *((True, 2), (2, False), (np.True_, 2), (torch.tensor(True), 2), torch.tensor([True, False])),
        *((math.nan, 2), (math.inf, 2), (2, 1j), (torch.ones(2), 1)),
    ],
    ids=str,
)
def test_pairs_that_are_none_are_refused(bad):
    with pytest.raises(NeuronsError, match="needed a pair"):
        RegisterNeurons.from_pairs([(0, 0), bad])


def test_a_neuron_listed_twice_is_refused():
    with pytest.raises(NeuronsError, match=r"\(1, 2\) is listed twice"):
        RegisterNeurons.from_pairs([(1, 2), (3, 4), (1, 2)])


def test_integers_of_any_library_are_indices():
    pairs = [(np.int64(1), torch.tensor(2)), torch.tensor([3, 4]), np.array([5, 6])]
    assert RegisterNeurons.from_pairs(pairs).pairs == [(1, 2), (3, 4), (5, 6)]


def test_a_duplicate_among_200_000_pairs_is_found_in_one_pass(tmp_path, monkeypatch):
    """Each pair is compared with a set, never with all others."""
    compared = 0

    class Counted(int):
        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return int(self) == other

        __hash__ = int.__hash__

    pairs = [(Counted(i // 100), Counted(i % 100)) for i in range(2000)]
    monkeypatch.setattr(neurons_module, "_pair", tuple)
    with pytest.raises(NeuronsError, match="is listed twice"):
        RegisterNeurons.from_pairs([*pairs, pairs[-1]])
    assert compared < 10 * len(pairs)
    monkeypatch.undo()
    many = [[i // 4096, i % 4096] for i in range(200_000)]
    (tmp_path / "n.json").write_text(
        json.dumps({"schema": neurons_module.SCHEMA, "pairs": [*many, many[-1]]})
    )
    with pytest.raises(NeuronsError, match=r"n\.json: neuron \(48, 3391\) is listed twice"):
        RegisterNeurons.load(tmp_path / "n.json")


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([[0, 1, 3.0], [0, 2, 4.0]], r"ranks neuron \(0, 2\) with score 4 behind a lower one"),
        ([[0, 1, 3.0], [0, 2, 2.0], [0, 1, 1.0]], r"lists neuron \(0, 1\) twice"),
        ([[0, 1, 3.0], [0, 2, None]], r"gives neuron \(0, 2\) the score nan"),
        ([[0, 1, math.inf]], "Infinity is no number of JSON"),
        ([[0, 1, math.nan]], "NaN is no number of JSON"),
        ([[True, 1, 3.0]], r"ranking\.0\.0"),
        ([[0, 1.0, 3.0]], r"ranking\.0\.1"),
        ([[0, 1, "3"]], r"ranking\.0\.2"),
    ],
)
def test_a_ranking_is_sorted_finite_and_of_integers(tmp_path, rows, complaint):
    path = tmp_path / "neurons.json"
    path.write_text(json.dumps({"schema": neurons_module.SCHEMA, "pairs": [], "ranking": rows}))
    with pytest.raises(NeuronsError, match=rf"neurons\.json .*{complaint}"):
        RegisterNeurons.load(path)


def test_rankings_with_equal_scores_are_sorted(tmp_path):
    rows = [[1, 1, 3.0], [0, 2, 3], [0, 1, 0.0]]
    path = tmp_path / "n.json"
    path.write_text(json.dumps({"schema": neurons_module.SCHEMA, "pairs": [[1, 1]], "ranking": rows}))
    assert RegisterNeurons.load(path).ranking == [(1, 1, 3.0), (0, 2, 3.0), (0, 1, 0.0)]


def test_a_file_beyond_all_rankings_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(neurons_module, "MOST_JSON", 100)
    (tmp_path / "n.json").write_text("x" * 101)
    with pytest.raises(NeuronsError, match=r"n\.json is no register-neurons file .*at most 0 are read"):
        RegisterNeurons.load(tmp_path / "n.json")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"schema": "ttr.register-neurons/1", "pairs": [[true, 1]]}', r"pairs\.0\.0"),
        (
            '{"schema": "ttr.register-neurons/1", "pairs": [], "provenance": {"num_layers": true}}',
            "num_layers",
        ),
        ('{"schema": "ttr.register-neurons/1", "pairs": ' + "[" * 10_000, "nested too deeply"),
        ("{", "no register-neurons file"),
        ("[]", "no register-neurons file"),
        ("[" * 100_000, "nested too deeply"),
        (
            '{"schema": "ttr.register-neurons/1", "pairs": [], "pairs": [[0, 1]]}',
            "'pairs' stands in it twice",
        ),
        ('{"schema": "ttr.register-neurons/1", "pairs": [], "ranking": [[0, 1, NaN]]}', "NaN is no number"),
        ('{"schema": "ttr.register-neurons/2", "pairs": []}', "schema"),
        ('{"schema": "ttr.register-neurons/1", "pairs": [[0, -1]]}', "pairs.0.1"),
        ('{"schema": "ttr.register-neurons/1", "pairs": [], "run": "rm"}', "run"),
        ('{"schema": "ttr.register-neurons/1", "pairs": [[1, 1], [1, 1]]}', "neurons.json: .*twice"),
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


def rows_of(blocks: int, width: int) -> list[tuple[int, int, float]]:
    scores = torch.randperm(blocks * width, generator=torch.Generator().manual_seed(0)).double() + 1
    return [(i // width, i % width, float(score)) for i, score in enumerate(scores.tolist())]


@pytest.mark.parametrize(
    ("shape", "kept", "top_layer"),
    [((12, 3072), 20, 5), pytest.param((24, 4096), 50, 19, marks=pytest.mark.slow)],
)
def test_a_predecessors_ranking_is_read_and_kept_as_published(tmp_path, shape, kept, top_layer):
    rows = rows_of(*shape)
    torch.save(rows, tmp_path / "register_neurons.pt")
    neurons = RegisterNeurons.load(tmp_path / "register_neurons.pt")
    best = sorted(rows, key=lambda row: -row[2])
    assert neurons.ranking == best
    assert neurons.pairs == [row[:2] for row in best if row[0] <= top_layer][:kept]
    assert f"{kept} of blocks 0..{top_layer}" in neurons.message


def test_a_ranking_of_another_model_waits_for_a_choice(tmp_path):
    torch.save(rows_of(3, 8), tmp_path / "r.pt")
    neurons = RegisterNeurons.load(tmp_path / "r.pt")
    assert neurons.pairs == []
    assert "choose with top(k, max_layer)" in neurons.message
    assert len(neurons.top(4, max_layer=1)) == 4


@pytest.mark.parametrize(
    "content",
    [
        *({"fc": torch.zeros(2)}, [(1, 2)], [(0, -1, 2.0)], [], [(0, 1, 2.0)] * 2),
        *([(True, 1, 2.0)], [(0, 1.5, 2.0)], [(0, 1, math.nan), (0, 2, 1.0)], [(0, 1, math.inf)]),
        *([(0, 1, 1j)], torch.zeros(1, 3, device="meta"), torch.zeros(2, 3, dtype=torch.complex64)),
    ],
    ids=lambda content: str(content)[:40],
)
def test_torch_files_that_hold_something_else_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "r.pt")
    with pytest.raises(NeuronsError, match=r"r\.pt .*(no ranking|holds no|twice|the score (nan|inf))"):
        RegisterNeurons.load(tmp_path / "r.pt")


class Exploit:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_pickled_ranking_is_never_executed(tmp_path, capsys):
    torch.save([(0, 0, Exploit())], tmp_path / "r.pt")
    with pytest.raises(NeuronsError, match="no ranking"):
        RegisterNeurons.load(tmp_path / "r.pt")
    assert "executed" not in capsys.readouterr().out


def test_top_counts_negative_layers_from_the_last_and_refuses_what_does_not_exist():
    ranked = ((2, 0, 3.0), (1, 0, 2.0), (0, 0, 1.0))
    neurons = RegisterNeurons((), ranked, Provenance(num_layers=3, num_neurons=1))
    assert neurons.top(3, max_layer=-2).pairs == [(1, 0), (0, 0)]
    assert neurons.top(3, max_layer=-2).message == "2 neurons kept by rank from blocks 0..1"
    for block in (3, -4):
        with pytest.raises(OptionError, match=f"max_layer={block}; needed a block counted from -3..2"):
            neurons.top(3, max_layer=block)
    with pytest.raises(OptionError, match="max_layer=-1; needed a block counted from 0"):
        RegisterNeurons((), ranked).top(3, max_layer=-1)
    for k in (2.5, -1, True, "3"):
        with pytest.raises(OptionError, match="needed an integer"):
            neurons.top(k)


def test_what_is_no_list_no_path_and_no_block_is_refused():
    with pytest.raises(NeuronsError, match="got 5; needed pairs"):
        RegisterNeurons.from_pairs(5)
    with pytest.raises(NeuronsError, match="got NoneType; needed the path"):
        RegisterNeurons.load(None)
    for layer in ("a", 1.5, True):
        with pytest.raises(OptionError, match="needed an integer, a block"):
            RegisterNeurons.from_pairs([(0, 1)]).top(1, max_layer=layer)
