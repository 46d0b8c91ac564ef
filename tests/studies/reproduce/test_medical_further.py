"""What goes beyond the medical study: each table against the benchmark's own, and verdicts a protocol."""

from __future__ import annotations

import pandas as pd
import pytest

import ttr
from tests.tools.medical_sets import load
from ttr.datasets.registry import open_dataset
from ttr.errors import ModelError, OptionError
from ttr.run import Run
from ttr.statistics.verdict import judge
from ttr.studies.bench.settings import BenchmarkSettings
from ttr.studies.bench.write import write_bench
from ttr.studies.reproduce.medical import reproduce_medical
from ttr.studies.reproduce.medical_further import Cell, Further, as_table, ask
from ttr.studies.reproduce.medical_settings import MedicalSettings

#: One number is asked for twice, and the order is not theirs.
ALL = Further(sweep=(3, 0, 1, 3), registers_as_classes=True, from_registers=True)


@pytest.fixture(scope="module")
def cell(roots, cache):
    backbone, dataset = load(""), open_dataset("aptos", roots["aptos"])
    neurons = ttr.RegisterNeurons.from_pairs(backbone.planted)
    return Cell(backbone, dataset, neurons, registers=1, run=Run(cache=cache))


@pytest.fixture(scope="module")
def found(cell):
    return ask(ALL, cell)


@pytest.fixture(scope="module")
def bench(cell, tmp_path_factory):
    arms = ("plain", "token", "neurons", "ttr")
    features = ("embedding", "test_time", "embedding+test_time")
    settings = BenchmarkSettings(arms, (1, 3), ("linear",), features, (cell.run.seed,))
    out = tmp_path_factory.mktemp("bench") / "out"
    return write_bench(cell.backbone, cell.dataset, cell.neurons, out, settings, cell.run)


@pytest.mark.slow  # a benchmark beside the cells, which are held to it
def test_each_number_of_registers_is_what_the_benchmark_says_of_it(found, bench):
    pairs = [("neurons", "plain", 0), ("ttr", "token", 1), ("ttr", "token", 3)]
    said = bench.comparisons[
        (bench.comparisons.metric == "top1") & (bench.comparisons.feature == "embedding")
    ].set_index(["first", "second", "num_registers", "head"])
    assert len(found["sweep"]) == 3
    for pair, (first, second, count) in zip(found["sweep"], pairs, strict=True):
        expected = said.loc[first, second, count, "linear"]
        assert (pair.row["first"], pair.row["second"], pair.row["first_registers"]) == (first, second, count)
        for name in ("difference", "ci_low", "ci_high", "p", "n"):
            assert pair.row[name] == pytest.approx(expected[name])


def test_values_are_those_of_the_heads_on_registers_and_of_as_many_as_classes(found, bench, cell):
    top1 = bench.results[(bench.results.metric == "top1") & (bench.results["head"] == "linear")]
    top1 = top1.set_index(["arm", "num_registers", "feature"])
    for pair in found["from_registers"]:
        for side in ("first", "second"):
            place = tuple(pair.row[f"{side}{part}"] for part in ("", "_registers", "_feature"))
            for ours, theirs in (("value", "value"), ("low", "ci_low"), ("high", "ci_high")):
                assert pair.row[f"{side}_{ours}"] == pytest.approx(top1.loc[place][theirs])
        assert pair.row["difference"] == pytest.approx(pair.row["first_value"] - pair.row["second_value"])
    features = [(pair.row["first_feature"], pair.row["second_feature"]) for pair in found["from_registers"]]
    assert features == [
        ("test_time", "embedding"),
        ("embedding+test_time", "embedding"),
        ("test_time", "test_time"),
    ]
    classes = len(cell.dataset.classes)
    rows = [pair.row for pair in found["registers_as_classes"]]
    assert [(row["first_registers"], row["second"], row["second_registers"]) for row in rows] == [
        (classes, "token", classes),
        (classes, "ttr", 1),
    ]


def test_verdicts_are_corrected_over_a_table_and_protocol(found):
    places = [{"protocol": name, "dataset": "aptos", "backbone": "b"} for name in ("published", "ours")]
    pairs = [(place, pair) for place in places for pair in found["sweep"]]
    table = as_table(pairs)
    alone = judge([pair.contrast for pair in found["sweep"]])
    for name in ("published", "ours"):
        rows = table[table.protocol == name]
        assert rows.verdict.tolist() == [each.verdict for each in alone]
        assert rows.tests.tolist() == [each.tests for each in alone]
        assert rows.p_holm.tolist() == pytest.approx([each.p_holm for each in alone], nan_ok=True)
    assert "published" not in table.columns


@pytest.mark.usefixtures("no_medical_page")
def test_what_is_asked_is_written_and_what_is_not_is_left_out(roots, cache, tmp_path):
    def only_clip(name):
        if name != "clip-vit-b-16":
            raise ModelError("the weights are elsewhere")
        return load(name)

    settings = MedicalSettings(("ours",), num_registers=1, published_detection=False, further=Further((0, 2)))
    reproduce_medical({"aptos": roots["aptos"]}, only_clip, tmp_path / "out", settings, Run(cache=cache))
    table = pd.read_csv(tmp_path / "out/sweep.csv")
    assert table[["protocol", "dataset", "backbone"]].drop_duplicates().values.tolist() == [
        ["ours", "aptos", "clip-vit-b-16"]
    ]
    assert table.first_registers.tolist() == [0, 2]
    assert not (tmp_path / "out/from_registers.csv").exists()
    assert not (tmp_path / "out/registers_as_classes.csv").exists()
    with pytest.raises(OptionError, match="sweep=-1; needed 0 or more"):
        MedicalSettings(further=Further(sweep=(-1,)))
