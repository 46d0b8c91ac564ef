"""Sets of register neurons against each other, and as ``ttr neurons compare`` prints and writes them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import ttr
from ttr.errors import NeuronsError
from ttr.registers.agreement import agreements
from ttr.registers.neurons import Provenance, SplitHalves
from ttr.registers.ranking import Ranking

HALVES = SplitHalves(top=5, overlap=0.8, low=0.4, high=1.0, chance=0.25, splits=10)


def ranked(scores, top_layer, k, **provenance):
    scores = np.asarray(scores, float)
    size = {"num_layers": scores.shape[0], "num_neurons": scores.shape[1], "top_layer": top_layer}
    found = ttr.RegisterNeurons((), Ranking.of_scores(scores), Provenance(**size, **provenance))
    return found.top(k, top_layer)


@pytest.fixture
def sets():
    random = np.random.default_rng(0)
    scores = random.random((3, 10))
    other = scores + 0.3 * random.random((3, 10))
    return {"a": ranked(scores, 1, 4, split_halves=(HALVES,)), "b": ranked(other, 2, 6)}


def test_heads_of_the_blocks_that_both_allow_are_compared(sets):
    found = {each.top: each for each in agreements(sets, heads=(5, 20, 21))}
    assert list(found) == ["kept", 5, 20], "there are 20 neurons in blocks 0 and 1"
    heads = [{row[:2] for row in [r for r in s.ranked if r[0] <= 1][:5]} for s in sets.values()]
    assert found[5].shared == len(heads[0] & heads[1])
    assert found[5].chance == pytest.approx(5 / 20)
    assert (found[20].overlap, found[20].chance, found[20].p) == (1, 1, 1)
    kept = [{pair for pair in s.pairs if pair[0] <= 1} for s in sets.values()]
    assert (found["kept"].first_size, found["kept"].second_size) == tuple(map(len, kept))
    assert found["kept"].overlap == len(kept[0] & kept[1]) / min(map(len, kept))
    assert (found[5].within_first, found[5].within_second, found[20].within_first) == (HALVES, None, None)


def test_whole_rankings_are_correlated_and_lists_are_not(sets):
    table = [{row[:2]: row[2] for row in s.ranked if row[0] <= 1} for s in sets.values()]
    columns = [pd.Series(scores) for scores in table]
    found = agreements(sets)[0]
    assert found.kendall == pytest.approx(columns[0].corr(columns[1], method="kendall"))
    assert found.spearman == pytest.approx(columns[0].corr(columns[1], method="spearman"))
    listed = {"a": sets["a"], "list": ttr.RegisterNeurons.from_pairs([*sets["a"].pairs[:2], (2, 9)])}
    each = agreements(listed, heads=(2,))[0]
    assert (each.shared, each.overlap, each.kendall) == (2, 1, None)
    bare = {name: ttr.RegisterNeurons.from_pairs([(0, 1), (0, 2)]) for name in "ab"}
    assert agreements(bare, heads=(2,))[0].p is None, "nobody says how large the model is"


def test_sets_that_cannot_be_compared_are_refused(sets):
    other = ranked(np.ones((3, 11)), 1, 2)
    with pytest.raises(NeuronsError, match="c and a are of 3 blocks of 11 neurons and 3 blocks of 10"):
        agreements({"c": other, "a": sets["a"]})
    with pytest.raises(NeuronsError, match="a and c are of 3 blocks of 10 neurons and 3 blocks of 11"):
        agreements({"a": sets["a"], "c": other})
    with pytest.raises(NeuronsError, match="got 1 register-neuron set"):
        agreements({"a": sets["a"]})
    nothing = replace(ttr.RegisterNeurons.from_pairs([]), provenance=sets["a"].provenance)
    with pytest.raises(NeuronsError, match=r"e has no neurons in blocks 0\.\.1"):
        agreements({"a": sets["a"], "e": nothing})


def test_files_of_all_kinds_are_compared_and_the_table_is_written(run, sets, tmp_path):
    a, b = tmp_path / "a.json", tmp_path / "register_neurons.pt"
    sets["a"].save(a)
    torch.save([tuple(row) for row in sets["b"].ranked], b)
    assert ttr.RegisterNeurons.load(a) == sets["a"], "halves are read as they were written"
    for out in (tmp_path / "table.csv", tmp_path / "table.json"):
        status, told, err = run("neurons", "compare", a, b, "--top", "5,10", "--out", out)
        assert status == 0, err
        assert "0.80" in told
    rows = json.loads((tmp_path / "table.json").read_text())
    assert [row["top"] for row in rows] == [5, 10], "a ranking of unknown choice keeps none"
    assert (rows[0]["within_first"], rows[0]["within_first_low"], rows[0]["within_second"]) == (
        0.8,
        0.4,
        None,
    )
    table = pd.read_csv(tmp_path / "table.csv")
    assert table.overlap.tolist() == pytest.approx([row["overlap"] for row in rows])


def test_published_lists_agree_at_their_heads_alone(run):
    names = ("published:dinov2-vit-l-14", "published:dinov2-vit-l-14-natural")
    status, told, err = run("neurons", "compare", *names, "--top", "5,20")
    assert status == 0, err
    listed = [ttr.RegisterNeurons.load(f"checkpoints/{name.partition(':')[2]}.json") for name in names]
    shared = len({p for p in listed[0].pairs if p[0] <= 17} & set(listed[1].pairs))
    assert f" {shared} " in told


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ("published:nothing", "a.json"),
            "no register neurons are published as 'nothing'; needed one of clip",
        ),
        (("a.json",), "got a.json; needed two or more sets, each once"),
        (("a.json", "b.json", "--top", "0"), "--top 0; needed numbers from 1 on"),
        (("a.json", "b.json", "--out", "table.txt"), "ends in .csv or .json"),
        (("a.json", "b.json"), "a.json cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(run, arguments, complaint):
    status, _, err = run("neurons", "compare", *arguments)
    assert (status, complaint in err, err.count("\n")) == (2, True, 1), err


def test_a_table_is_never_written_over_a_set_that_it_was_made_of(run, sets, tmp_path):
    files = [tmp_path / f"{name}.json" for name in sets]
    for file, each in zip(files, sets.values(), strict=True):
        each.save(file)
    before = files[0].read_bytes()
    status, _, err = run("neurons", "compare", *files, "--out", tmp_path / "." / "a.json")
    assert (status, files[0].read_bytes()) == (2, before)
    assert "was given to be read, too; choose another place for --out" in err
    (tmp_path / "same.json").symlink_to(files[0])
    status, _, err = run("neurons", "compare", files[0], tmp_path / "same.json")
    assert (status, "each once" in err) == (2, True)


def test_sets_of_other_weights_are_compared_and_said_to_be(run, sets, tmp_path):
    files = {}
    for name, digest in (("one", "feed"), ("other", "beef"), ("again", "feed"), ("unknown", None)):
        files[name] = tmp_path / f"{name}.json"
        found = replace(sets["a"].provenance, weights_hash=digest and digest * 4)
        replace(sets["a"], provenance=found).save(files[name])
    out = tmp_path / "table.json"
    status, told, _ = run("neurons", "compare", *files.values(), "--top", "5", "--out", out)
    assert status == 0
    assert f"{files['one']} and {files['other']} were found on other weights" in told
    assert told.count("were found on other weights") == 2, "what is not known is not said"
    rows = {
        (Path(row["first"]).stem, Path(row["second"]).stem): row["weights"]
        for row in json.loads(out.read_text())
    }
    assert [rows["one", second] for second in ("other", "again", "unknown")] == ["other", "same", "unknown"]


def test_a_neuron_that_its_model_has_not_is_refused(sets, tmp_path):
    sets["a"].save(tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    content["pairs"].append([2, 10])
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(
        NeuronsError, match=r"names neuron \(2, 10\), but .* 3 blocks of 10 neurons; write it"
    ):
        ttr.RegisterNeurons.load(tmp_path / "a.json")
