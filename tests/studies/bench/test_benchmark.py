"""The benchmark end to end on the labelled phantom, whose truth is known; its tables against their parts."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from tests.tools.report_page import held_to_the_design
from ttr.datasets.base import Item, make_dataset
from ttr.datasets.phantom_set import CARD, phantom_set
from ttr.errors import DataError, OptionError
from ttr.evaluate.heads import LinearHead
from ttr.evaluate.probe import HEADS
from ttr.registers.arms import arms
from ttr.run import Run
from ttr.statistics.estimates import Difference, few
from ttr.statistics.verdict import FEWEST, holm
from ttr.studies.bench import statistics as bench_statistics
from ttr.studies.bench.benchmark import data_digest, run_benchmark
from ttr.studies.bench.settings import BenchmarkSettings
from ttr.studies.bench.statistics import statistics
from ttr.studies.bench.tables import comparisons, results
from ttr.studies.bench.write import write_bench
from ttr.studies.schemas import is_result

ARMS = ("plain", "neurons", "ttr", "random")
FEW = BenchmarkSettings(ARMS, draws=1, seeds=(1, 2))
COUNTS = {"train": 60, "val": 18, "test": 120}
TABLES = ("results.csv", "comparisons.csv", "predictions.parquet")


@pytest.fixture(scope="module")
def dataset():
    return phantom_set(counts=COUNTS)


@pytest.fixture(scope="module")
def bench(backbone, dataset, neurons, cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "out"
    return write_bench(backbone, dataset, neurons, out, FEW, Run(cache=cache)), out


def top1(table, **wanted):
    for name, value in {"metric": "top1", **wanted}.items():
        table = table[table[name] == value]
    return table


def test_zeroing_breaks_a_deployed_head_and_random_neurons_do_not(bench):
    table = bench[0].comparisons
    zeroed = top1(table, first="neurons", second="plain", head="logistic:plain").iloc[0]
    assert zeroed.verdict == "lower"
    assert zeroed.difference < -0.12
    harmless = top1(table, first="random", second="plain")
    assert set(harmless.verdict) <= {"not distinguishable", "equivalent"}


@pytest.mark.slow
def test_the_whole_phantom_set_shows_what_is_known_of_it(phantom, neurons, cache, tmp_path):
    """Own heads: moving keeps what is there. A deployed head: zeroing without a register breaks it."""
    table = write_bench(phantom, phantom_set(), neurons, tmp_path / "out", run=Run(cache=cache)).comparisons
    for head in ("linear", "logistic"):
        own = top1(table, first="ttr", second="plain", head=head).iloc[0]
        assert abs(own.difference) <= 0.01
        assert own.verdict in ("not distinguishable", "equivalent")
        deployed = f"{head}:plain"
        zeroed = top1(table, first="neurons", second="plain", head=deployed).iloc[0]
        assert zeroed.verdict == "lower"
        assert zeroed.difference < -0.2
        assert zeroed.p_holm < 0.01
        harmless = top1(table, first="random", second="plain", head=deployed).iloc[0]
        assert abs(harmless.difference) < 0.015
        assert harmless.verdict in ("not distinguishable", "equivalent")


def test_the_results_are_the_predictions(bench):
    result, out = bench
    table, found = pd.read_csv(out / "results.csv"), pd.read_parquet(out / "predictions.parquet")
    assert list(table.columns[:10]) == [
        *("dataset", "backbone", "arm", "head", "seed", "metric", "value", "ci_low", "ci_high", "n")
    ]
    assert len(table) == len(result.benchmark.outcomes) * 10
    for place, part in found.groupby(["arm", "head", "seed"]):
        rows = table.groupby(["arm", "head", "seed"]).get_group(place).set_index("metric")
        assert rows.value["top1"] == pytest.approx(accuracy_score(part.label, part.predicted))
        balanced = balanced_accuracy_score(part.label, part.predicted)
        assert rows.value["balanced_accuracy"] == pytest.approx(balanced)
        low, high = rows.ci_low["top1"], rows.ci_high["top1"]
        wilson = binomtest(int((part.label == part.predicted).sum()), 120).proportion_ci(method="wilson")
        assert (low, high) == pytest.approx((wilson.low, wilson.high))
        assert (rows.ci_low.dropna() < rows.ci_high.dropna()).all(), "no interval collapses"
        assert np.isnan(rows.ci_low["ece"])
        assert "would mislead" in rows.reason["ece"]
        assert np.isnan(rows.value["qwk"])
        assert rows.reason["qwk"] == "the classes are not ordinal"
        chances = np.stack(part.probabilities)
        np.testing.assert_allclose(chances.sum(axis=1), 1)
        assert [result.benchmark.dataset.classes[i] for i in chances.argmax(axis=1)] == list(part.predicted)
    assert set(found.image) == {item.name for item in result.benchmark.dataset.select("test")}


def test_comparisons_average_seeds_and_draws_image_by_image(bench):
    result, out = bench
    found = pd.read_parquet(out / "predictions.parquet")
    found["right"] = found.label == found.predicted
    found["kind"] = found.arm.str.partition(":")[0]
    linear = found[found["head"] == "linear"]
    right = linear.groupby(["kind", "image"]).right.mean().unstack("kind")
    row = top1(result.comparisons, first="ttr", second="random", head="linear").iloc[0]
    assert row.difference == pytest.approx((right.ttr - right["random"]).mean())
    first = linear[(linear.seed == 1) & linear.arm.isin(["ttr", "random:0"])].pivot(
        index="image", columns="arm", values="right"
    )
    assert row.only_first == (first.ttr & ~first["random:0"]).sum()
    pairs = set(zip(result.comparisons["first"], result.comparisons.second, strict=True))
    assert pairs == {
        *(("ttr", "plain"), ("neurons", "plain"), ("ttr", "random"), ("random", "plain")),
    }


def test_differences_are_judged_over_all_metrics_of_a_question(bench):
    """Heads of the arm are one family, heads of the bare model another; what cannot fire is left out."""
    table = bench[0].comparisons
    assert set(table.family) == {"heads of the arm", "heads of the bare model"}
    assert (table.family == "heads of the bare model").equals(table["head"].str.endswith(":plain"))
    for _, rows in table.groupby("family"):
        fire = rows.differing >= FEWEST
        assert rows.p_holm.tolist() == pytest.approx(holm(rows.p.where(fire).tolist()), nan_ok=True)
        assert set(rows.tests) == {fire.sum()}
        mcnemar = rows.p_mcnemar.where(rows.only_first + rows.only_second >= FEWEST)
        assert rows.p_mcnemar_holm.tolist() == pytest.approx(holm(mcnemar.tolist()), nan_ok=True)
    open_ones = table[table.verdict == "not distinguishable"]
    assert (open_ones.needed > 0).all()
    assert table.needed[table.verdict != "not distinguishable"].isna().all()
    assert set(table.margin) == {0.01}
    row = top1(table, first="neurons", second="plain", head="logistic:plain").iloc[0]
    found = Difference(row.difference, row.moved, row.effective, 120)
    assert (row.ci_low, row.ci_high) == pytest.approx((found.interval().low, found.interval().high))
    assert row.smallest_detectable == pytest.approx(found.detectable(0.05 / row.tests))
    assert "needs" in (bench[1] / "index.html").read_text()


def test_a_repeated_run_is_byte_identical_and_computes_nothing_again(
    bench, backbone, dataset, neurons, cache, tmp_path, monkeypatch
):
    _, out = bench
    monkeypatch.setattr("ttr.features.extract.vectors", None)
    monkeypatch.setattr("ttr.features.trained.HEADS", dict.fromkeys(HEADS))
    for name in ("results", "comparisons"):
        monkeypatch.setattr(f"ttr.studies.bench.statistics.{name}", None)
    again = tmp_path / "again"
    write_bench(backbone, dataset, neurons, again, FEW, Run(cache=cache))
    names = json.loads((out / "manifest.json").read_text())["files"]
    assert set(TABLES) < set(names)
    for name in names:
        if name != "index.html":
            assert (again / name).read_bytes() == (out / name).read_bytes(), name
    first, second = ((folder / "index.html").read_text().splitlines() for folder in (out, again))
    changed = [a for a, b in zip(first, second, strict=True) if a != b]
    assert all('"created"' in line or "&#34;created&#34;" in line for line in changed)


def test_kept_statistics_are_those_of_the_predictions_and_another_prediction_finds_none(bench, cache):
    found = bench[0].benchmark
    kept = statistics(found, "phantom", cache)
    pd.testing.assert_frame_equal(kept.results, results(found, "phantom"))
    pd.testing.assert_frame_equal(kept.comparisons, comparisons(found, "phantom"))
    pd.testing.assert_frame_equal(bench[0].comparisons, kept.comparisons)
    known = bench_statistics._digest(found, "phantom")
    first, *others = found.outcomes
    chances = first.predictions.probabilities.copy()
    chances[0] = chances[0, ::-1]
    targets = first.predictions.targets.copy()
    targets[0] = (targets[0] + 1) % 6
    for change in (
        {"predictions": replace(first.predictions, probabilities=chances)},
        {"predictions": replace(first.predictions, targets=targets)},
        {"seed": 9},
        {"head": "linear:plain"},
        {"feature": "cls"},
        {"arm": replace(first.arm, num_registers=7)},
    ):
        other = replace(found, outcomes=(replace(first, **change), *others))
        assert bench_statistics._digest(other, "phantom") != known, change
    grouped = replace(found, groups=("a",) * len(found.test))
    assert bench_statistics._digest(grouped, "phantom") != known
    assert bench_statistics._digest(found, "another") != known
    ordinal = replace(found, dataset=replace(found.dataset, ordinal=True))
    assert bench_statistics._digest(ordinal, "phantom") != known


@pytest.mark.slow  # how fast a repetition starts, not what it says
def test_a_repeated_run_imports_nothing_that_only_the_first_needs(bench, cache, tmp_path):
    heavy = ("sklearn", "scipy", "matplotlib", "albumentations", "open_clip", "plotly")
    code = f"""
import sys
from pathlib import Path
import ttr
from ttr.run import Run
from ttr.studies.bench.settings import BenchmarkSettings
from ttr.studies.bench.write import write_bench
from ttr.studies.schemas import is_result
from ttr.datasets.phantom_set import phantom_set
from ttr.studies.schemas import is_result
data = phantom_set(counts={COUNTS!r})
neurons = ttr.RegisterNeurons.load(sys.argv[1])
settings = BenchmarkSettings({ARMS!r}, draws=1, seeds=(1, 2))
backbone = ttr.load("phantom", image_size=112)
write_bench(backbone, data, neurons, Path(sys.argv[2]), settings, Run(cache=Path(sys.argv[3])))
print([name for name in {heavy!r} if name in sys.modules])
"""
    given = [bench[1] / "neurons.json", tmp_path / "out", cache]
    run = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
    assert (tmp_path / "out" / "results.csv").read_bytes() == (bench[1] / "results.csv").read_bytes()


def test_the_manifest_says_what_is_needed_to_repeat_it_and_heads_load(bench):
    result, out = bench
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["dataset"]["images"] == COUNTS
    assert manifest["dataset"]["classes"] == list(result.benchmark.dataset.classes)
    assert [arm["name"] for arm in manifest["arms"]] == [*("plain", "neurons", "ttr", "random:0")]
    assert manifest["arms"][2]["neurons"] == [list(pair) for pair in result.neurons.pairs]
    dataset = result.benchmark.dataset
    lines = [
        json.dumps([i.name, i.split, i.label, None, hashlib.sha256(i.name.encode()).hexdigest()])
        for i in sorted(dataset.items, key=lambda item: item.name)
    ]
    assert manifest["dataset"]["digest"] == hashlib.sha256("\n".join(lines).encode()).hexdigest()
    settings = manifest["provenance"]["settings"]
    assert settings["seeds"] == [1, 2]
    assert settings["margin"] == 0.01
    assert settings["preprocessing"]["fingerprint"]
    assert sorted(path.name for path in out.iterdir()) == sorted([*manifest["files"], "manifest.json"])
    assert is_result(out)
    head = LinearHead.load(out / "head-ttr-1-embedding-linear-1.safetensors")
    assert head.classes == result.benchmark.dataset.classes
    page = held_to_the_design(out / "index.html").whole
    assert "earlier work called this its baseline" in page
    assert "It proves the instrument, not the biology" in page
    assert "not distinguishable" in page


def test_the_digest_of_the_data_follows_the_images_and_not_their_order():
    items = phantom_set(counts={"train": 6, "val": 6, "test": 6}).items
    contents = {item.name: item.name for item in items}
    digest = data_digest(items, contents)
    assert data_digest(items[::-1], contents) == digest
    changed = [replace(items[0], **{field: "test"}) for field in ("name", "split", "label", "group")]
    others = [data_digest([item, *items[1:]], {**contents, "test": "x"}) for item in changed]
    others += [data_digest(items[1:], contents), data_digest(items, {**contents, items[0].name: "x"})]
    assert len({digest, *others}) == 7


@pytest.mark.slow
def test_features_of_registers_and_several_counts(phantom, dataset, neurons, cache, tmp_path):
    result = write_bench(
        phantom,
        dataset,
        neurons,
        tmp_path / "out",
        BenchmarkSettings(
            ("plain", "ttr"),
            num_registers=(1, 2),
            heads=("logistic",),
            features=("cls", "test_time", "cls+test_time", "patches"),
            seeds=(1,),
        ),
        Run(cache=cache),
    )
    found = {(o.arm.name, o.arm.num_registers, o.feature) for o in result.benchmark.outcomes}
    assert ("plain", 0, "test_time") not in found
    assert {("ttr", count, "cls+test_time") for count in (1, 2)} < found
    model = next(o.model for o in result.benchmark.outcomes if o.feature == "cls+test_time")
    assert model.weight.shape == (6, 2 * 192)
    assert set(result.comparisons.num_registers) == {1, 2}
    assert set(result.comparisons.feature) == {"cls", "patches"}


@pytest.mark.slow
def test_ordinal_classes_are_compared_by_kappa_and_groups_stay_together(phantom, neurons, cache):
    plain = phantom_set(counts={"train": 24, "val": 12, "test": 36})
    grades = {label: str(place) for place, label in enumerate(plain.classes)}
    items = [
        Item(i.name, grades[i.label], i.split, group=f"patient {n // 3}") for n, i in enumerate(plain.items)
    ]
    graded = make_dataset("graded", items, CARD, ordinal=True, read=plain.read, decode=plain.decode)
    both = arms(("plain", "neurons"), phantom, neurons)
    settings = BenchmarkSettings(heads=("logistic",), seeds=(1,))
    found = run_benchmark(phantom, graded, both, settings, Run(cache=cache))
    assert len(set(found.groups)) == 12
    table = comparisons(found, "phantom", resamples=200, permutations=500)
    assert set(table.metric) == {"top1", "qwk"}
    assert table.p.between(0, 1).all()
    row = table[table.metric == "top1"].iloc[0]
    assert np.isnan(row.p_mcnemar), "images of one patient are no independent evidence"
    assert row.effective <= 36
    assert row.degrees == 11
    assert few(36, found.groups).startswith("12 groups only")


def test_a_split_without_images_and_wrong_settings_are_refused(backbone, neurons, cache, dataset, tmp_path):
    plain = arms(("plain",), backbone, neurons)
    items = [
        item for item in phantom_set(counts={"train": 6, "val": 6, "test": 6}).items if item.split != "val"
    ]
    without = make_dataset("set", items, CARD, read=dataset.read, decode=dataset.decode)
    with pytest.raises(DataError, match="set has no readable image in its val split; see: ttr data check"):
        run_benchmark(backbone, without, plain, BenchmarkSettings(), Run(cache=cache))
    for options, complaint in (
        ({"heads": ("svm",)}, "heads svm; needed one or more of linear, logistic"),
        ({"features": ("cls+pixels",)}, r"features cls\+pixels; needed embedding, cls"),
        ({"seeds": ()}, "list of seeds is empty"),
        ({"margin": 0}, "margin=0; needed a number above 0 and below 1"),
        ({"seeds": (1, 1)}, "seeds 1, 1; needed one or more, each once"),
    ):
        with pytest.raises(OptionError, match=complaint):
            BenchmarkSettings(**options)
    with pytest.raises(OptionError, match="no arm has the features test_time"):
        run_benchmark(
            backbone,
            phantom_set(counts={"train": 6, "val": 6, "test": 6}),
            plain,
            BenchmarkSettings(features=("test_time",)),
            Run(cache=cache),
        )
    with pytest.raises(OptionError, match="list of num_registers is empty"):
        BenchmarkSettings(num_registers=())
    elsewhere = Run(cache=cache, dtype="float16")
    with pytest.raises(OptionError, match="asks for dtype float16, and phantom is on float32; load it with"):
        write_bench(backbone, dataset, neurons, tmp_path / "out", run=elsewhere)
    assert not (tmp_path / "out").exists()
