"""The ablation suite end to end on a tiny model: tables, cache, repeatability, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import permutation_test
from sklearn.metrics import jaccard_score
from sklearn.neighbors import KNeighborsClassifier

import ttr
from tests.tools.small_results import leave_the_page_out
from tests.tools.tiny_models import DINOV3, SIZE, scramble, tiny_eva, tiny_vit
from ttr.backbones.phantoms.recipes import Preprocess
from ttr.datasets.phantom_set import phantom_set
from ttr.datasets.registry import Dataset
from ttr.errors import DataError, ImageError, OptionError
from ttr.registers.arms import PLAIN, Arm
from ttr.registers.neurons import RegisterNeurons
from ttr.run import Run
from ttr.studies.ablate.scores import scores
from ttr.studies.ablate.settings import TASKS, AblationSettings
from ttr.studies.ablate.write import ANALYSES, write_ablation

COUNTS = {"train": 36, "val": 12, "test": 25}
NOTHING = PLAIN
CONDITIONS = ["registers:zero", "registers:mean", "registers:shuffle", "register-1:zero", "register-2:zero",
              "cls:mean", "patches-2:zero", "registers:zero@last"]  # fmt: skip
SETTINGS = AblationSettings(analysis_images=10, layers=3, calibration_images=20)


def run_in(cache):
    return Run(cache=cache, batch_size=8)


@pytest.fixture(scope="module")
def backbone():
    model = scramble(tiny_vit(reg_tokens=2, no_embed_class=True))
    return ttr.adapt(model, preprocess=Preprocess(SIZE))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return phantom_set(counts=COUNTS)


@pytest.fixture(scope="module")
def ran(backbone, dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablation")
    out, cache = folder / "out", folder / "cache"
    with pytest.MonkeyPatch.context() as patch:
        leave_the_page_out(patch)
        return (
            write_ablation(backbone, NOTHING, dataset, CONDITIONS, out, SETTINGS, run_in(cache)),
            out,
            cache,
        )


def test_results_have_the_contracts_columns_and_every_condition_and_metric(ran):
    table = pd.read_csv(ran[1] / "results.csv")
    needed = [
        "backbone",
        "dataset",
        "condition",
        "task",
        "metric",
        "value",
        "ci_low",
        "ci_high",
        "n",
        "delta",
        "p",
        "p_holm",
    ]
    assert set(needed) <= set(table.columns)
    assert set(table.condition) == {"full", *CONDITIONS}
    assert set(table.task) == set(TASKS)
    assert (table.groupby("condition").size() == 8).all()
    defined = table[np.isfinite(table.ci_low)]
    assert (defined.ci_low <= defined.value + 1e-9).all()
    assert (defined.value <= defined.ci_high + 1e-9).all()
    full = table[table.condition == "full"]
    assert (full.delta == 0).all()
    assert full.p.isna().all()
    assert full.verdict.isna().all()


def test_a_difference_is_that_of_the_values_and_its_test_is_scipys(ran):
    table = pd.read_csv(ran[1] / "results.csv").set_index(["metric", "condition"])
    for metric in ("top1", "pck_0.1", "miou", "recall_at_1"):
        change = table.loc[(metric, "registers:zero"), "value"] - table.loc[(metric, "full"), "value"]
        assert table.loc[(metric, "registers:zero"), "delta"] == pytest.approx(change, abs=1e-9)
    images = pd.read_parquet(ran[1] / "per_image.parquet")
    pck = images[images.metric == "pck_0.1"].pivot(index="image", columns="condition", values="value")
    a, b = pck["cls:mean"].to_numpy(), pck["full"].to_numpy()
    reference = permutation_test(
        (a, b), lambda x, y, axis: (x - y).mean(axis=axis), permutation_type="samples", n_resamples=20_000,
        rng=np.random.default_rng(0), vectorized=True,
    ).pvalue  # fmt: skip
    assert table.loc[("pck_0.1", "cls:mean"), "p"] == pytest.approx(reference, abs=0.02)


def test_neighbours_of_the_full_condition_are_scikit_learns(ran):
    measured = ran[0].measured
    items = measured.training.items
    train = np.array([item.split == "train" for item in items])
    x = measured.training.arrays["full"]["embedding"]
    y = np.array([measured.dataset.target(item) for item in items])
    model = KNeighborsClassifier(1, metric="cosine", algorithm="brute").fit(x[train], y[train])
    assert model.n_samples_fit_ == COUNTS["train"]
    test = measured.scored.arrays["full"]["embedding"]
    truth = np.array([measured.dataset.target(item) for item in measured.scored.items])
    nearest = test @ test.T / np.outer(np.linalg.norm(test, axis=1), np.linalg.norm(test, axis=1))
    np.fill_diagonal(nearest, -2)
    found = next(s for s in ran[0].scores if (s.metric, s.condition) == ("recall_at_1", "full"))
    assert found.number.tolist() == (truth[nearest.argmax(axis=1)] == truth).astype(float).tolist()


def test_miou_is_scikit_learns_mean_jaccard_over_all_pixels(ran):
    measured = ran[0].measured
    matrix = measured.scored.arrays["full"]["confusion"].sum(axis=0)
    truth = np.repeat(np.arange(len(matrix)), matrix.sum(axis=1))
    predicted = np.concatenate([np.repeat(np.arange(len(matrix)), row) for row in matrix])
    reference = jaccard_score(truth, predicted, average="macro")
    table = ran[0].results
    value = table[(table.condition == "full") & (table.metric == "miou")].value.iloc[0]
    assert value == pytest.approx(reference, abs=1e-9)


def test_the_last_blocks_registers_are_read_by_no_task(ran):
    table = ran[0].results
    last = table[table.condition == "registers:zero@last"]
    assert (last.delta == 0).all()
    assert (last.verdict == "not distinguishable").all()


def test_analyses_are_whole(ran):
    tables = {name: pd.read_csv(ran[1] / f"{name}.csv") for name in ANALYSES}
    flows = tables["attention"]
    to_groups = flows[flows.target.isin(["cls", "registers", "patches"])]
    sums = to_groups.groupby(["condition", "block", "source"]).share.sum()
    np.testing.assert_allclose(sums, 1, atol=1e-5)
    single = (
        flows[flows.target.str.startswith("register-")].groupby(["condition", "block", "source"]).share.sum()
    )
    whole = flows[flows.target == "registers"].set_index(["condition", "block", "source"]).share
    np.testing.assert_allclose(single, whole.reindex(single.index), atol=1e-5)
    of_mean = tables["divergence"].set_index(["condition", "block", "source"]).js_of_mean
    assert (of_mean.loc["full"] == 0).all()
    assert (of_mean.loc["registers:zero"].loc[0] == 0).all(), (
        "what comes before the first replacement is full"
    )
    js = tables["divergence"].set_index(["condition", "block", "source"]).js
    assert (of_mean.loc["registers:zero"].loc[2] <= js.loc["registers:zero"].loc[2] * 1.001).all()
    assert (of_mean.loc["registers:zero"].loc[2] > 1e-5).all()
    assert (js.loc["full"] == 0).all()
    assert (js.loc["registers:zero"].loc[0] == 0).all(), "the input of block 0 is the same"
    assert (js.loc["registers:zero"].loc[2] > 1e-4).all()
    assert (js.loc["registers:zero@last"] == 0).all()
    geometry = tables["geometry"].set_index(["measure", "condition"])
    assert geometry.loc[("patch_cosine", "full"), "value"] == pytest.approx(1)
    assert geometry.loc[("patch_cosine", "registers:zero"), "value"] < 0.999
    assert set(tables["probing"].token) == {"cls", "register-1", "register-2"}
    assert set(tables["probing"].block) == {0, 1, 2}
    assert set(tables["layers"].metric) == {"recall_at_1", "pck_0.1", "nearest_patch", "miou"}
    cosines = tables["registers"].set_index(["first", "second"]).cosine
    assert cosines[("register-1", "register-1")] == pytest.approx(1, abs=1e-6)
    assert cosines[("register-1", "register-2")] == pytest.approx(cosines[("register-2", "register-1")])
    sums_of = pd.read_csv(ran[1] / "additivity.csv").set_index(["metric", "term"]).value
    singles = sums_of[("pck_0.1", "register-1:zero")] + sums_of[("pck_0.1", "register-2:zero")]
    assert sums_of[("pck_0.1", "sum")] == pytest.approx(singles)
    assert sums_of[("pck_0.1", "excess")] == pytest.approx(sums_of[("pck_0.1", "collective")] - singles)


def test_a_probe_of_the_last_block_reads_what_the_task_reads(ran):
    tokens = ran[0].measured.training.arrays["full"]["layer_tokens"]
    np.testing.assert_allclose(
        tokens[:, -1, 0], ran[0].measured.training.arrays["full"]["embedding"], atol=1e-6
    )
    layers = pd.read_csv(ran[1] / "layers.csv")
    assert len(layers) == 3 * 4


def test_pictures_share_one_order(ran):
    from safetensors.numpy import load_file

    index = json.loads((ran[1] / "pictures.json").read_text())
    arrays = load_file(ran[1] / "pictures.safetensors")
    assert index["conditions"] == ["full", *CONDITIONS]
    assert index["queries"] == ["cls", "register-1", "register-2"]
    count = len(index["conditions"]), len(index["images"])
    assert arrays["norms"].shape == (*count, 4, 4)
    assert arrays["attention"].shape == (*count, 3, 4, 4)
    assert arrays["colours"].shape == (*count, 4, 4, 3)
    assert len(index["nearest"]) == 2
    assert arrays["crops"].shape[:2] == (2, 8)
    assert arrays["crops_mean"].shape == arrays["crops"].shape
    # Under zeroing at the last block, patches are those of the full condition.
    last = index["conditions"].index("registers:zero@last")
    assert np.array_equal(arrays["norms"][last], arrays["norms"][0])


def test_the_mean_gallery_is_an_exhaustive_search_for_the_registers_mean(ran, backbone, dataset):
    index = json.loads((ran[1] / "pictures.json").read_text())
    items = ran[0].measured.analysed.items
    tokens = backbone.tokens(torch.stack([backbone.preprocess(dataset.open(item)) for item in items]))
    mean = tokens.registers.mean(dim=0)
    cosines = torch.cosine_similarity(mean[:, None, None], tokens.patches[None], dim=-1)
    for register, found in enumerate(index["nearest_mean"]):
        first = found[0]
        assert first["cosine"] == pytest.approx(float(cosines[register].max()), abs=1e-5)
        place = [item.name for item in items].index(first["image"])
        there = cosines[register, place, first["row"] * tokens.grid[1] + first["column"]]
        assert float(there) == pytest.approx(first["cosine"], abs=1e-5)
        assert len({each["image"] for each in found}) == len(found)
    assert index["nearest_mean"] != index["nearest"]


@pytest.mark.usefixtures("no_page")
def test_a_second_run_computes_nothing_and_writes_the_same_bytes(
    ran, backbone, dataset, tmp_path, monkeypatch
):
    def refuse(*arguments, **options):
        raise AssertionError("everything is in the cache")

    monkeypatch.setattr("ttr.studies.ablate.collected._compute", refuse)
    monkeypatch.setattr("ttr.features.prepared.calibrate", refuse)
    write_ablation(backbone, NOTHING, dataset, CONDITIONS, tmp_path / "again", SETTINGS, run_in(ran[2]))
    for path in sorted(ran[1].iterdir()):
        if path.suffix in {".csv", ".parquet"}:
            assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.usefixtures("no_page")
def test_an_interrupted_run_goes_on_and_another_condition_computes_itself_alone(
    ran, backbone, dataset, tmp_path, monkeypatch
):
    import ttr.studies.ablate.collected as collected

    original, asked = collected._compute, []

    def dies(run, conditions, measure, batch_size):
        asked.append([condition.name for condition in conditions])
        if len(asked) == 2:
            raise KeyboardInterrupt
        return original(run, conditions, measure, batch_size)

    settings = replace(SETTINGS, analysis_images=0, tasks=("knn",))
    names = ["registers:zero", "registers:shuffle"]
    monkeypatch.setattr("ttr.features.chunks.PART", 16)
    monkeypatch.setattr(collected, "_compute", dies)
    with pytest.raises(KeyboardInterrupt):
        write_ablation(
            backbone, NOTHING, dataset, names, tmp_path / "out", settings, run_in(tmp_path / "cache")
        )
    assert not (tmp_path / "out").exists()
    write_ablation(backbone, NOTHING, dataset, names, tmp_path / "out", settings, run_in(tmp_path / "cache"))
    write_ablation(backbone, NOTHING, dataset, names, tmp_path / "whole", settings, run_in(tmp_path / "new"))
    results = [(tmp_path / name / "results.csv").read_bytes() for name in ("out", "whole")]
    assert results[0] == results[1]
    asked[:] = [[], []]
    more = [*names, "cls:zero"]
    write_ablation(backbone, NOTHING, dataset, more, tmp_path / "more", settings, run_in(tmp_path / "cache"))
    assert asked[2:], "the test images under the new condition"
    assert all(names == ["cls:zero"] for names in asked[2:])


@pytest.mark.usefixtures("no_page")
def test_a_wrapped_model_has_its_bare_self_as_a_condition(backbone, dataset, tmp_path):
    wrapped = Arm("ttr", RegisterNeurons.from_pairs([(0, 3), (1, 7)]), 1)
    settings = replace(SETTINGS, tasks=("knn",))
    names = ["bare", "test-time:zero", "test-time:mean", "registers:zero"]
    found = write_ablation(
        backbone, wrapped, dataset, names, tmp_path / "out", settings, run_in(tmp_path / "cache")
    )
    js = pd.read_csv(tmp_path / "out" / "divergence.csv").set_index(["condition", "block", "source"]).js
    assert (js.loc["bare"].loc[0] > 0).all(), "the appended token holds attention from the first block on"
    shares = pd.read_csv(tmp_path / "out" / "attention.csv")
    assert "test-time-1" in set(shares.target)
    assert "test-time-1" not in set(shares[shares.condition == "bare"].target)
    bare = found.measured.scored.arrays["bare"]["embedding"]
    images = torch.stack([backbone.preprocess(dataset.open(item)) for item in dataset.select("test")])
    np.testing.assert_allclose(bare, backbone.embed(images).numpy(), atol=1e-5)


@pytest.mark.usefixtures("no_page")
@pytest.mark.slow
def test_the_whole_suite_runs_on_a_small_dinov3_wrapped_with_a_test_time_register(dataset, tmp_path):
    model = scramble(tiny_eva(**DINOV3))
    backbone = ttr.adapt(model, preprocess=Preprocess(SIZE))
    wrapped = Arm("ttr", RegisterNeurons.from_pairs([(0, 3), (1, 7)]), 1)
    found = write_ablation(
        backbone, wrapped, dataset, ["all"], tmp_path / "out", SETTINGS, run_in(tmp_path / "cache")
    )
    names = set(found.results.condition)
    assert {"bare", "registers:resample", "test-time:shuffle", "cls:mean", "patches-4:zero"} <= names
    assert found.results.value.notna().all()
    assert model.blocks[0].attn.num_prefix_tokens == 5
    flows = pd.read_csv(tmp_path / "out" / "attention.csv")
    assert {"register-4", "test-time-1"} <= set(flows.target)


@pytest.mark.usefixtures("no_page")
def test_another_mask_of_the_same_image_is_another_result(backbone, tmp_path):
    dataset = phantom_set(counts={"train": 6, "val": 3, "test": 4})
    settings = replace(SETTINGS, analysis_images=0, tasks=("segmentation",))

    def found(masks, cache):
        out = tmp_path / f"{cache}-{len(list(tmp_path.iterdir()))}"
        changed = replace(dataset, masks=masks)
        run = run_in(tmp_path / cache)
        return write_ablation(backbone, NOTHING, changed, [], out, settings, run).results.value.tolist()

    turned = replace(dataset.masks, open=lambda item: dataset.masks.open(item)[::-1])
    first, again = found(dataset.masks, "cache"), found(turned, "cache")
    assert again == found(turned, "new")
    assert first != again


@pytest.mark.usefixtures("no_page")
def test_a_set_of_one_class_has_its_dense_tasks_and_no_probe(backbone, dataset, tmp_path):
    label = dataset.items[0].label
    items = tuple(item for item in dataset.items if item.label == label and item.split != "val")
    alone = replace(dataset, items=items, classes=(label,))
    settings = replace(SETTINGS, tasks=("correspondence",), analysis_images=4)
    found = write_ablation(
        backbone, NOTHING, alone, ["registers:zero"], tmp_path / "out", settings, run_in(tmp_path / "cache")
    )
    assert set(found.results.task) == {"correspondence"}
    assert (tmp_path / "out/geometry.csv").exists()
    assert not (tmp_path / "out/probing.csv").exists()


def test_what_a_set_cannot_do_is_refused_before_any_work(backbone, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("ttr.studies.ablate.write.run_experiment", None)

    def refused(data=dataset, names=("cls:zero",), **changed):
        settings = replace(SETTINGS, **changed)
        write_ablation(backbone, NOTHING, data, list(names), tmp_path / "out", settings, run_in(tmp_path))

    with pytest.raises(OptionError, match="tasks probe, sorting; needed one or more of probe, knn"):
        refused(tasks=("probe", "sorting"))
    with pytest.raises(OptionError, match="test-time:zero.*no test-time registers"):
        refused(names=("test-time:zero",))
    with pytest.raises(DataError, match="no masks; choose one with masks"):
        refused(data=replace(dataset, masks=None))
    no_validation = replace(dataset, items=tuple(i for i in dataset.items if i.split != "val"))
    with pytest.raises(DataError, match="has no val images"):
        refused(data=no_validation)
    tested = [item for item in dataset.items if item.split == "test"]
    one_test = replace(dataset, items=tuple(item for item in dataset.items if item not in tested[1:]))
    with pytest.raises(DataError, match="a single test image, without a neighbour; leave knn out"):
        refused(data=one_test)
    with pytest.raises(DataError, match="has a single class"):
        refused(data=replace(dataset, classes=("one",)), tasks=("knn",))
    assert not (tmp_path / "out").exists()


def test_batches_of_one_are_refused(backbone, dataset, tmp_path):
    alone = replace(run_in(tmp_path), batch_size=1)
    with pytest.raises(OptionError, match="batch_size=1; shuffling"):
        write_ablation(backbone, NOTHING, dataset, ["cls:zero"], tmp_path / "out", SETTINGS, alone)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_page")
def test_a_bad_image_is_named_or_left_out(backbone, dataset, tmp_path):
    def decode(item, content):
        if item.name == dataset.select("test")[3].name:
            raise ImageError(f"{item.name} is damaged")
        return dataset.decode(item, content)

    broken = replace(dataset, decode=decode)
    settings = replace(SETTINGS, analysis_images=0, tasks=("knn",))
    with pytest.raises(ImageError, match="is damaged.*--on-error skip"):
        write_ablation(
            backbone, NOTHING, broken, ["cls:zero"], tmp_path / "out", settings, run_in(tmp_path / "c")
        )
    skipping = replace(run_in(tmp_path / "c"), on_error="skip")
    found = write_ablation(backbone, NOTHING, broken, ["cls:zero"], tmp_path / "out", settings, skipping)
    assert list(found.skipped) == [dataset.select("test")[3].name]
    assert (found.results.n == COUNTS["test"] - 1).all()
    assert len(scores(found.measured)) == 4


def test_the_command_prints_a_table_and_the_path_to_open(run, tmp_path, monkeypatch):
    monkeypatch.setattr("ttr.datasets.phantom_set.phantom_set.__kwdefaults__", {"counts": COUNTS, "seed": 0})
    common = ("--backbone", "phantom-reg4", "--dataset", "phantom", "--cache", tmp_path / "cache", "--quiet")
    common += ("--image-size", 64)
    out = tmp_path / "out"
    conditions = "registers:zero,registers:zero@last"
    status, printed, _ = run(
        "ablate", *common, "--conditions", conditions, "--tasks", "knn", "--analysis-images", 0, "--out", out
    )
    assert status == 0
    for text in ("change from full", "registers:zero@last", "(0.0)", str(out / "index.html")):
        assert text in " ".join(printed.split())
    assert (out / "manifest.json").exists()
    assert "registers:zero@last" in (out / "index.html").read_text()
    for options, message in (
        (("--head", "deep"), "--head 'deep'; needed logistic or linear"),
        (("--neurons", __file__), "add --num-registers 1"),
        (("--conditions", "register-9:zero"), "has 4 trained registers"),
        (("--layers", "many"), "needed a number from 2 on, or all"),
    ):
        status, _, error = run("ablate", *common, "--out", out, *options)
        assert status == 2
        assert message in error
