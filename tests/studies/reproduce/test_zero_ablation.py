"""``ttr reproduce zero-ablation``: each ablation's numbers beside the published ones, and what is missing."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pandas as pd
import pytest
from safetensors.torch import save_file

import ttr
from ttr.datasets.phantom import phantom_image
from ttr.datasets.phantom_set import phantom_set
from ttr.errors import DataError, ModelError
from ttr.run import Run
from ttr.studies.ablate.settings import AblationSettings
from ttr.studies.reproduce.zero_ablation import reasons, reproduce_zero_ablation
from ttr.studies.schemas import is_result

pytestmark = pytest.mark.usefixtures("tables_alone")
REGISTERS, WITHOUT, NOT_THERE = "dinov2-vit-s-14-reg4", "dinov2-vit-s-14", "dinov3-vit-s-16"
FAST = AblationSettings(analysis_images=4)
COUNTS = {"train": 12, "val": 6, "test": 12}


def run_in(cache):
    return Run(cache=cache, workers=1, batch_size=6)


@pytest.fixture(scope="module")
def models():
    return {name: ttr.load(name, image_size=64) for name in ("phantom-reg4", "phantom")}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def measured(models, cache, tables_alone, tmp_path_factory):
    """Two of the six models are there: the phantoms with and without registers."""

    def load(name):
        if name not in (REGISTERS, WITHOUT):
            raise ModelError("its weights are elsewhere")
        return models["phantom-reg4" if name == REGISTERS else "phantom"]

    out = tmp_path_factory.mktemp("zero") / "out"
    return reproduce_zero_ablation(load, phantom_set(counts=COUNTS), out, FAST, run_in(cache)).table, out


@pytest.fixture
def pairs_folder(tmp_path):
    """SPair's layout: three pairs of phantom images of one category, none of which share an image."""
    root = tmp_path / "spair"
    for part in ("PairAnnotation/test", "JPEGImages/cat"):
        (root / part).mkdir(parents=True)
    for number in (1, 2, 3):
        for name in (number, number + 3):
            phantom_image(name, seed=5, classes=2).image.save(root / f"JPEGImages/cat/{name}.jpg")
        points = [[60, 60], [110, 130], [150, 90]]
        found = {"category": "cat", "src_imname": f"{number}.jpg", "trg_imname": f"{number + 3}.jpg"}
        found |= {"src_kps": points, "trg_kps": points, "trg_bndbox": [20, 20, 200, 200]}
        (root / f"PairAnnotation/test/{number}:cat.json").write_text(json.dumps(found))
    return root


def rows(table, backbone, task):
    return table[(table.backbone == backbone) & (table.task == task)].set_index("condition")


@pytest.mark.parametrize(
    ("task", "metric"), [("probe", "top1"), ("correspondence", "nearest_patch"), ("segmentation", "miou")]
)
def test_measured_numbers_are_the_ablations_own(measured, task, metric):
    table, out = measured
    results = pd.read_csv(out / REGISTERS / "results.csv", keep_default_na=False, na_values=[""])
    theirs = results[(results.task == task) & (results.metric == metric)].set_index("condition")
    ours = rows(table, REGISTERS, task)
    for condition in ("full", "registers:zero", "registers:mean", "registers:noise", "registers:shuffle"):
        assert ours.measured[condition] == pytest.approx(theirs.value[condition])
        assert ours.n[condition] == theirs.n[condition]
        if condition != "full":
            change = ours.loc[f"{condition} - full"]
            assert change.measured == pytest.approx(theirs.delta[condition])
            assert change.p_holm == pytest.approx(theirs.p_holm[condition], nan_ok=True)
            assert change.verdict == theirs.verdict[condition]
            expected = ours.published[condition] - ours.published["full"]
            assert change.published == pytest.approx(expected, abs=1e-9)
    assert "patches-4:zero - full" in ours.index, "measured, though nobody published it"
    assert math.isnan(ours.published["patches-4:zero - full"])


def test_retrieval_is_measured_though_its_numbers_were_never_published(measured):
    table, out = measured
    results = pd.read_csv(out / REGISTERS / "results.csv").query("metric == 'recall_at_1'")
    theirs = results.set_index("condition")
    ours = rows(table, REGISTERS, "knn")
    assert ours.measured["full"] == pytest.approx(theirs.value["full"])
    change = ours.loc["registers:zero - full"]
    assert change.measured == pytest.approx(theirs.delta["registers:zero"])
    assert ours.published.isna().all()


def test_the_pattern_of_the_phantom_is_the_studys(measured):
    ours = rows(measured[0], REGISTERS, "segmentation")
    assert ours.verdict["registers:zero - full"] == "lower"
    for substitute in ("mean", "noise", "shuffle"):
        assert ours.verdict[f"registers:{substitute} - full"] in ("not distinguishable", "equivalent")


def test_the_analyses_come_from_the_tables_of_the_ablation(measured):
    table, out = measured
    read = {
        name: pd.read_csv(out / REGISTERS / f"{name}.csv")
        for name in ("divergence", "geometry", "attention", "probing", "additivity")
    }
    last = read["divergence"].block.max()  # noqa: F841 (the queries name it)
    js = read["divergence"].query("block == @last and source == 'patches'").set_index("condition").js
    ours = rows(table, REGISTERS, "attention JS").measured
    assert ours["registers:zero"] == js["registers:zero"] > 10 * ours["registers:mean"]
    geometry = read["geometry"].set_index(["measure", "condition"]).value
    ours = rows(table, REGISTERS, "effective rank").loc["full"]
    assert (ours.published, ours.measured) == (8.7, geometry["effective_rank", "full"])
    for reading, name in (("centred", "centred"), ("singular", "singular values")):
        ours = rows(table, REGISTERS, f"effective rank, {name}").loc["full"]
        assert ours.measured == geometry[f"effective_rank_{reading}", "full"]
        assert math.isnan(ours.published), "which reading was published is not known"
    ours = rows(table, REGISTERS, "attention JS of the heads' mean").measured
    of_mean = read["divergence"].query("block == @last and source == 'patches'").set_index("condition")
    assert ours["registers:zero"] == of_mean.js_of_mean["registers:zero"] < js["registers:zero"]
    ours = rows(table, REGISTERS, "patch cosine").measured
    assert ours["registers:zero"] == geometry["patch_cosine", "registers:zero"] < ours["registers:shuffle"]
    share = read["attention"].query(
        "condition == 'full' and block == @last and source == 'cls' and target == 'registers'"
    )
    ours = rows(table, REGISTERS, "CLS to registers").loc["full"]
    assert (ours.published, ours.measured) == (0.179, share.share.item())
    probing = read["probing"].query("block == @last").set_index("token").accuracy
    ours = rows(table, REGISTERS, "register probe").measured
    assert ours.to_dict() == probing.drop("cls").to_dict()
    total = read["additivity"].query("task == 'probe' and metric == 'top1' and term == 'sum'")
    ours = rows(table, REGISTERS, "probe").loc["sum of singles - full"]
    assert (ours.published, ours.measured, ours.n) == (-0.052, total.value.item(), 12)


def test_the_flow_studys_numbers_stand_alone_and_nothing_leaves_a_register_of_the_last_block(measured):
    table, out = measured
    flow = pd.read_csv(out / "flow.csv", keep_default_na=False, na_values=[""])
    assert set(flow.backbone) == {WITHOUT, REGISTERS, NOT_THERE}
    probe = rows(flow, REGISTERS, "probe")
    for condition in ("registers:zero@last", "registers:mean@last", "register-2:zero@last"):
        assert probe.measured[f"{condition} - full"] == 0, "no attention behind the last block"
    assert (probe.published["registers:zero@last - full"], probe.n["registers:zero@last - full"]) == (
        -0.189,
        12,
    )
    assert rows(flow, WITHOUT, "probe").measured["cls:zero@last"] <= 0.5, "the probe reads what was zeroed"
    assert rows(flow, WITHOUT, "correspondence").measured["cls:zero@last - full"] == 0
    assert not table.condition.str.contains("@").any()
    assert rows(flow, REGISTERS, "effective rank").published["full"] == 9.4
    assert rows(flow, NOT_THERE, "patches to register-1").published.to_dict() == {"@11": 0.211}
    attention = pd.read_csv(out / REGISTERS / "attention.csv").query(
        "condition == 'full' and source == 'cls'"
    )
    highest = attention[attention.target == "register-2"].share.max()
    found = rows(flow, REGISTERS, "cls to register-2").loc["highest of the blocks"]
    assert (found.published, found.measured) == (0.161, highest)
    probing = pd.read_csv(out / REGISTERS / "probing.csv")
    shown = rows(flow, REGISTERS, "token probe").measured
    for row in probing.itertuples():
        assert shown[f"{row.token} @{row.block}"] == row.accuracy
    cosines = pd.read_csv(out / REGISTERS / "registers.csv").set_index(["first", "second"]).cosine
    for of, end in ((table, 0.9), (flow, 0.62)):
        ours = rows(of, REGISTERS, "register cosine")
        others = [cosines["register-2", f"register-{other}"] for other in (1, 3, 4)]
        assert ours.measured["register-2 to the others"] == pytest.approx(sum(others) / 3)
        found = ours.loc["highest among registers 1, 3, 4"]
        assert found.published == end
        pairs = [(1, 3), (1, 4), (3, 4)]
        assert found.measured == max(cosines[f"register-{i}", f"register-{j}"] for i, j in pairs)


def test_the_models_that_are_there_are_tested_against_each_other(measured):
    table, out = measured
    between = pd.read_csv(out / "between.csv", keep_default_na=False, na_values=[""])
    assert between.published_p.tolist() == [*["< 0.001"] * 8, *["0.80"] * 6]
    (there,) = between[between.missing.isna()].itertuples()
    assert (there.model_a, there.model_b, there.condition) == (WITHOUT, REGISTERS, "cls:zero")
    for side, backbone in (("a", WITHOUT), ("b", REGISTERS)):
        change = rows(table, backbone, "segmentation").measured["cls:zero - full"]
        assert getattr(there, f"effect_{side}") == pytest.approx(change)
    assert there.difference == pytest.approx(there.effect_a - there.effect_b)
    lost = between[between.missing.notna()]
    assert lost.p.isna().all()
    assert lost.missing.str.contains(f"{NOT_THERE}: its weights are elsewhere", regex=False).any()


@pytest.mark.slow
def test_each_task_on_its_own_set(models, cache, tmp_path):
    """The main set has no masks; segmentation has a set of its own, with other images."""
    main = replace(phantom_set(counts=COUNTS), masks=None)
    own = phantom_set(counts=dict.fromkeys(COUNTS, 6), seed=3)

    def load(name):
        if name not in (REGISTERS, WITHOUT):
            raise ModelError("its weights are elsewhere")
        return models["phantom-reg4" if name == REGISTERS else "phantom"]

    found = reproduce_zero_ablation(
        load, main, tmp_path / "out", FAST, run_in(cache), sets={"segmentation": own}, fit="pad"
    )
    ours = rows(found.table, REGISTERS, "segmentation")
    assert ours.n["full"] == 6
    beside = pd.read_csv(tmp_path / "out" / f"{REGISTERS}-segmentation" / "results.csv")
    assert set(beside.task) == {"segmentation"}
    assert ours.measured["full"] == beside.set_index("condition").value["full"]
    assert rows(found.table, REGISTERS, "probe").n["full"] == 12
    assert rows(found.flow, REGISTERS, "probe").n["registers:zero@last - full"] == 12
    there = found.between[found.between.missing == ""].iloc[0]
    assert (there.task, there.n) == ("segmentation", 6), "models are compared on the task's own set"
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["sets"] == {"segmentation": "phantom"}
    assert manifest["fit"] == "pad"
    assert is_result(tmp_path / "out")


def test_what_is_missing_keeps_its_published_numbers_and_says_why(measured):
    table, out = measured
    missing = table[table.backbone == NOT_THERE]
    assert set(missing.missing) == {"its weights are elsewhere"}
    assert missing.measured.isna().all()
    assert rows(table, NOT_THERE, "attention JS").published.to_dict() == {"registers:zero": 0.18}
    assert rows(table, NOT_THERE, "probe").published["registers:zero - full"] == -0.366
    without = rows(table, WITHOUT, "segmentation")
    assert without.published["cls:zero - full"] == -0.371
    assert without.measured.notna().all()
    assert not without.index.str.startswith("register").any()
    assert table.backbone.nunique() == 6
    manifest = json.loads((out / "manifest.json").read_text())
    assert {path.name for path in out.iterdir()} == {*manifest["files"], "manifest.json"}
    assert is_result(out)
    assert {REGISTERS, WITHOUT, "reproduction.csv", "between.csv", "flow.csv"} == set(manifest["files"])
    assert set(manifest["missing"]) == set(table.backbone) - {REGISTERS, WITHOUT}
    written = pd.read_csv(out / "reproduction.csv", keep_default_na=False, na_values=[""])
    assert len(written) == len(table)


def test_a_rehearsal_is_measured_once_and_names_the_tokens_and_masks_it_lacks(models, cache, tmp_path):
    asked = []

    def load(name):
        asked.append(name)
        return models["phantom"]

    data = replace(phantom_set(counts=COUNTS), masks=None)
    found = reproduce_zero_ablation(load, data, tmp_path / "out", FAST, run_in(cache), instead="phantom")
    table = found.table
    assert asked == ["phantom"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "phantom",
        "manifest.json",
        "reproduction.csv",
        "between.csv",
        "flow.csv",
    }
    assert found.flow.published.notna().all()
    assert found.between.missing.str.contains("a rehearsal measures one model").all()
    probe = rows(table, NOT_THERE, "probe")
    assert probe.measured["full"] == rows(table, WITHOUT, "probe").measured["full"]
    assert "has no trained registers" in probe.missing["registers:zero - full"]
    assert "has no trained registers" in probe.missing["registers:shuffle"]
    assert "has no trained registers" in probe.missing["sum of singles - full"]
    assert probe.missing["cls:mean"] == ""
    missing = rows(table, NOT_THERE, "segmentation").missing["full"]
    assert missing == "dataset phantom has no masks; --segmentation-dataset NAME: on a set of its own"
    assert table.published.notna().all()
    assert (table[table.missing != ""].measured.isna()).all()
    assert any("(spair): no annotated pairs were given: --pairs DIR" in reason for reason in reasons(table))


def test_nothing_to_measure_is_refused_and_leaves_nothing(models, cache, tmp_path):
    def none(name):
        raise ModelError("no weights")

    with pytest.raises(ModelError, match="not one model could be measured: no weights$"):
        reproduce_zero_ablation(none, phantom_set(counts=COUNTS), tmp_path / "out", FAST, run_in(cache))
    empty = phantom_set(counts={"train": 6})
    with pytest.raises(DataError, match="not one task can be measured: phantom has no test images"):
        reproduce_zero_ablation(none, empty, tmp_path / "out", FAST, run_in(cache))
    assert not (tmp_path / "out").exists()


@pytest.fixture
def small(monkeypatch, models, cache):
    """Let the command meet the small set and the small models."""
    monkeypatch.setattr("ttr.cli.study_models.load_backbone", lambda model: models[model.backbone])
    few = phantom_set(counts=COUNTS)
    monkeypatch.setattr("ttr.datasets.registry.open_dataset", lambda name, root, finding: few)
    options = ("--analysis-images", 4, "--batch-size", 6, "--workers", 1, "--quiet", "--cache", cache)
    return ("--dataset", "phantom", "--backbone", "phantom-reg4", *options)


def test_the_command_prints_both_columns_and_names_what_is_missing(run, small, measured, tmp_path):
    status, out, err = run("reproduce", "zero-ablation", *small, "--out", tmp_path / "out")
    assert (status, err) == (1, "")
    assert "A REHEARSAL: phantom-reg4 was measured in place" in " ".join(out.split())
    line = next(line for line in out.split(NOT_THERE)[1].splitlines() if "registers:zero - full" in line)
    published, found, interval = line.replace("│", " ").split()[3:6]
    table = pd.read_csv(tmp_path / "out" / "reproduction.csv")
    row = rows(table, NOT_THERE, "probe").loc["registers:zero - full"]
    assert published == "-36.60", "points, as on every page and in every other table"
    assert found == f"{100 * row.measured:+.2f}"
    assert interval == f"{100 * row.ci_low:+.2f}..{100 * row.ci_high:+.2f}", "an interval is never cut"
    ranks = [line.replace("│", " ").split()[:2] for line in out.splitlines()]
    assert ["full", "4.0000"] in ranks, "an effective rank is no share"
    assert "(effective rank, register cosine and attention JS as they are)" in " ".join(out.split())
    missing = [line for line in out.splitlines() if line.startswith("missing: ")]
    assert len(missing) == 1
    assert "(spair): no annotated pairs were given" in missing[0]
    assert out.splitlines()[-1] == f"open: {tmp_path / 'out' / 'reproduction.csv'}"


@pytest.mark.slow
def test_with_pairs_nothing_is_missing(run, small, measured, pairs_folder, tmp_path):
    options = ("--pairs", pairs_folder, "--out", tmp_path / "out")
    status, out, err = run("reproduce", "zero-ablation", *small, *options)
    assert (status, err) == (0, "")
    assert "missing" not in out
    results = pd.read_csv(tmp_path / "out" / "phantom-reg4-spair" / "results.csv").query(
        "metric == 'pck_0.1'"
    )
    ours = rows(pd.read_csv(tmp_path / "out" / "reproduction.csv"), "dinov3-vit-b-16", "spair")
    assert ours.measured["full"] == results.set_index("condition").value["full"]
    assert (ours.published["full"], ours.n["full"]) == (0.379, 3)


@pytest.mark.slow
def test_a_pair_that_cannot_be_read_is_missing_and_the_rest_is_measured(
    run, small, measured, pairs_folder, tmp_path
):
    (pairs_folder / "JPEGImages/cat/2.jpg").write_bytes(b"no image")
    options = ("--pairs", pairs_folder, "--out", tmp_path / "out")
    status, out, err = run("reproduce", "zero-ablation", *small, *options)
    assert (status, err) == (1, "")
    assert "(spair): " in next(line for line in out.splitlines() if line.startswith("missing: "))
    table = pd.read_csv(tmp_path / "out" / "reproduction.csv", keep_default_na=False, na_values=[""])
    assert set(table[table.missing.notna()].task) == {"spair"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "--pretrained, or --weights dinov3-vit-s-16=FILE"),
        (("--weights", "dinov3-x=w.pt"), "'dinov3-x'; the study has dinov2-vit-s-14, "),
        (("--weights", "nonsense"), "needed NAME=PATH"),
        (("--backbone", "phantom", "--weights", "dinov2-vit-s-14=w.pt"), "a rehearsal takes random weights"),
        (("--pairs", "nowhere"), "nowhere"),
        (("--fit", "squeeze"), "needed crop, pad, resize"),
        (("--segmentation-root", "."), "add --segmentation-dataset NAME"),
        (("--on-error", "ignore"), "on_error='ignore'"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(run, tmp_path, options, says):
    given = ("--dataset", "phantom", "--quiet", "--out", tmp_path / "out", *options)
    status, out, err = run("reproduce", "zero-ablation", *given)
    assert status == 2
    assert says in err
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_weights_on_this_machine_are_measured_at_the_studys_size(run, monkeypatch, tmp_path):
    """DINOv3's smallest model with random weights in a file."""
    file = tmp_path / "w.safetensors"
    save_file(ttr.load(NOT_THERE).model.state_dict(), file)
    few = phantom_set(counts=dict.fromkeys(COUNTS, 6))
    monkeypatch.setattr("ttr.datasets.registry.open_dataset", lambda name, root, finding: few)
    options = ("--dataset", "phantom", "--analysis-images", 2, "--batch-size", 6, "--quiet")
    places = ("--weights", f"{NOT_THERE}={file}", "--cache", tmp_path / "cache", "--out", tmp_path / "out")
    status, out, err = run("reproduce", "zero-ablation", *options, *places)
    assert (status, err) == (1, "")
    assert "224x224 px" in out
    assert "missing: dinov2-vit-s-14" in out
    table = pd.read_csv(tmp_path / "out" / "reproduction.csv", keep_default_na=False, na_values=[""])
    ours = table[table.backbone == NOT_THERE]
    assert ours[ours.task != "spair"].missing.isna().all()
    assert ours.measured.notna().all()
    assert len(ours[ours.published.notna()]) > 20


@pytest.mark.slow  # a whole suite of its own
def test_a_set_of_one_patient_lacks_the_shuffle_alone(models, cache, tmp_path):
    dataset = phantom_set(counts={"train": 6, "val": 3, "test": 4})
    items = tuple(replace(item, group="one") for item in dataset.items)
    found = reproduce_zero_ablation(
        lambda name: models["phantom-reg4"],
        replace(dataset, items=items, masks=None),
        tmp_path / "out",
        FAST,
        run_in(cache),
        instead="phantom-reg4",
    ).table
    probe = rows(found, REGISTERS, "probe")
    assert "none of another patient (group) beside it" in probe.missing["registers:shuffle"]
    assert probe.measured.isna()["registers:shuffle"]
    assert (probe.missing.drop(["registers:shuffle", "registers:shuffle - full"]) == "").all()


def test_a_set_of_one_class_has_its_dense_tasks(models, cache, tmp_path):
    dataset = phantom_set(counts=COUNTS)
    label = dataset.items[0].label
    items = tuple(item for item in dataset.items if item.label == label)
    alone = replace(dataset, items=items, classes=(label,), masks=None)
    model, run = models["phantom"], run_in(cache)
    load = {"phantom": model}.__getitem__
    found = reproduce_zero_ablation(load, alone, tmp_path / "out", FAST, run, instead="phantom").table
    assert (
        rows(found, WITHOUT, "probe").missing["full"]
        == "phantom has a single class; choose another --dataset"
    )
    assert rows(found, WITHOUT, "correspondence").measured["cls:zero - full"] == pytest.approx(0, abs=0.2)
