"""The medical study on tiny sets in the exact layouts: six cells of numbers, none of them invented."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pandas as pd
import pytest

import ttr
from tests.tools.medical_sets import load, write_medical_sets
from ttr.cli.study_models import parse_places
from ttr.errors import DataError, ModelError, OptionError
from ttr.features.prepared import Prepared
from ttr.registers.detection import DetectionRule
from ttr.registers.neurons import Provenance
from ttr.run import Run
from ttr.statistics.verdict import FEWEST, NAN, holm
from ttr.studies.bench.write import write_bench
from ttr.studies.reproduce.medical import reproduce_medical
from ttr.studies.reproduce.medical_settings import MedicalSettings, of_top_layer
from ttr.studies.reproduce.published import published_studies
from ttr.studies.schemas import is_result

#: A rehearsal: the layers of the published settings are not a phantom's.
REHEARSAL = MedicalSettings(published_detection=False)
PUBLISHED = replace(REHEARSAL, protocols=("published",))


@pytest.fixture
def small(monkeypatch):
    """Let the command load the small phantom, whatever it is asked for."""
    monkeypatch.setattr("ttr.cli.study_models.load_backbone", lambda options: load(options.backbone))


pytestmark = pytest.mark.usefixtures("no_medical_page", "few_resamples")


def test_the_cells_are_the_benchmarks_beside_the_published_numbers(roots, cache, tmp_path):
    some = {name: roots[name] for name in ("orthonet", "aptos")}
    table = reproduce_medical(some, load, tmp_path / "out", PUBLISHED, Run(cache=cache))
    of_cell = (table.dataset == "orthonet") & (table.backbone == "clip-vit-b-16")
    assert len(table[table.metric == "top1"]) == 2 * 3 * 4
    cell = table[of_cell & (table.metric == "top1")].set_index("arm")
    assert cell.published["token"] == 0.5278
    assert cell.published["ttr - token"] == pytest.approx(0.0222)
    assert math.isnan(cell.published["plain"])
    bench = pd.read_csv(tmp_path / "out" / "orthonet-clip-vit-b-16-published" / "results.csv")
    top1 = bench[bench.metric.eq("top1") & bench["head"].eq("linear")].set_index("arm")
    for arm in ("plain", "token", "ttr"):
        for column in ("measured", "ci_low", "ci_high", "n"):
            assert cell[column][arm] == top1["value" if column == "measured" else column][arm]
    others = table[of_cell & (table.metric != "top1")]
    assert others.published.isna().all(), "the study published top-1 alone"
    theirs = bench[bench["head"].eq("linear")].set_index(["arm", "metric"])
    for row in others.itertuples():
        stands = theirs.loc[row.arm, row.metric]
        both = [(row.measured, stands.value), (row.ci_low, stands.ci_low), (row.ci_high, stands.ci_high)]
        assert all(a == b or (a != a and b != b) for a, b in both)
    assert set(others.metric) == {"top3", "f1_macro", "precision_macro", "recall_macro", "auc_ovr"}
    assert set(others.arm) == {"plain", "token", "ttr"}
    assert others[others.metric == "top3"].reason.str.contains("top 3 of 2 classes").all()
    assert others[others.metric == "auc_ovr"].measured.notna().all()
    assert cell.measured["ttr - token"] == pytest.approx(cell.measured["ttr"] - cell.measured["token"])
    assert set(table[table.missing == ""].measured_backbone) == {"phantom"}
    tested = table[table.p.notna()]
    assert len(tested) == 4
    pairs = [
        pd.read_csv(tmp_path / "out" / f"{row.dataset}-{row.backbone}-published" / "comparisons.csv")
        for row in tested.itertuples()
    ]
    chosen = [t[(t["first"] == "ttr") & (t.second == "token") & (t.metric == "top1")].iloc[0] for t in pairs]
    firing = [row.p if row.differing >= FEWEST else NAN for row in chosen]
    assert tested.p_holm.tolist() == pytest.approx(holm(firing), nan_ok=True), "one family over all cells"
    assert set(tested.tests) == {sum(p == p for p in firing)}
    missing = table[table.dataset == "pacemaker"]
    assert missing.measured.isna().all()
    assert missing.missing.str.contains("--roots pacemaker=DIR").all()
    assert missing.published.notna().sum() == 6
    assert set(missing.metric) == set(table.metric)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["published"]["source"].startswith("Kukade and Bansal 2025")
    assert [bool(cell["missing"]) for cell in manifest["cells"]] == [False, True, False] * 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [*manifest["files"], "manifest.json"]
    )
    assert is_result(tmp_path / "out")
    settings = json.loads((tmp_path / "out/aptos-clip-vit-b-16-published/manifest.json").read_text())
    assert settings["provenance"]["settings"]["num_registers"] == [4]
    assert settings["provenance"]["settings"]["seeds"] == [42]


def test_the_published_detection_settings_are_those_of_each_backbone(roots, cache, tmp_path, monkeypatch):
    seen = []

    def find(backbone, images, run, rule):
        seen.append((len(images), rule))
        return Prepared(ttr.RegisterNeurons.from_pairs([(0, 1)]))

    monkeypatch.setattr("ttr.studies.reproduce.medical_settings.found_neurons", find)
    some = {"orthonet": roots["orthonet"]}
    reproduce_medical(some, load, tmp_path / "out", MedicalSettings(), Run(cache=cache))
    # Of 16 training images a fifth validates; the neurons are never chosen on test images.
    dino = DetectionRule(outlier_layer=-2, threshold=100, top_layer=19, top_k=50)
    clip = DetectionRule(outlier_layer=-1, threshold=30, top_layer=5, top_k=20)
    expected = [rule for ours in (dino, clip) for rule in (replace(ours, include_cls=True), ours)]
    assert seen == [(12, rule) for rule in expected]
    scripts = MedicalSettings(source="scripts")
    study = published_studies()["medical"]
    assert scripts.rule(study, "dinov2-vit-l-14", "ours") == replace(dino, threshold=150)
    assert scripts.rule(study, "clip-vit-b-16", "ours") == clip
    assert (scripts.registers(study), MedicalSettings().registers(study)) == (1, 4)
    assert MedicalSettings(source="scripts", num_registers=3).registers(study) == 3


def test_ours_stands_beside_the_published_protocol_without_its_numbers(roots, cache, tmp_path, monkeypatch):
    looked = []

    def bench(backbone, dataset, neurons, out, settings, run):
        looked.append((out.name, type(backbone.preprocess_image).__name__, neurons.provenance.include_cls))
        return write_bench(backbone, dataset, neurons, out, settings, run)

    monkeypatch.setattr("ttr.studies.reproduce.medical_cell.write_bench", bench)

    def only_clip(name):
        if name != "clip-vit-b-16":
            raise ModelError("the weights are elsewhere")
        return load(name)

    some = {"orthonet": roots["orthonet"]}
    table = reproduce_medical(some, only_clip, tmp_path / "out", REHEARSAL, Run(cache=cache))
    assert [(name.rpartition("-")[2], made, cls) for name, made, cls in looked] == [
        ("published", "Stretch", True),
        ("ours", "Preprocess", False),
    ]
    ours = table[table.protocol == "ours"]
    assert ours.published.isna().all()
    assert table[table.protocol == "published"].published.notna().sum() == 2 * 3 * 3
    measured = table[(table.missing == "") & (table.arm == "ttr - token")]
    assert measured.protocol.tolist() == ["published", "ours"]
    assert measured.tests.max() <= 1, "a family a protocol: the two ask the same question"
    assert json.loads((tmp_path / "out/manifest.json").read_text())["settings"] == {
        **{"protocols": ["published", "ours"], "source": "text", "top_layer": "up-to"},
        **{"num_registers": 4, "published_detection": False, "seed": 42, "figure_images": 100, "maps": 3},
        "further": {"sweep": [], "registers_as_classes": False, "from_registers": False},
    }


def test_the_top_layer_alone_is_a_part_of_the_blocks_up_to_it():
    ranked = ((1, 7, 9.0), (2, 3, 8.0), (0, 5, 7.0), (2, 4, 6.0), (2, 9, 5.0), (3, 1, 4.0))
    found = ttr.RegisterNeurons(((1, 7), (2, 3)), ranked, Provenance(top_layer=2), "found")
    assert of_top_layer(found, 2).pairs == [(2, 3), (2, 4)]
    assert of_top_layer(found, None).pairs == [(2, 3)]
    assert of_top_layer(found, None).message == "found; of block 2 alone 1 neuron"
    assert of_top_layer(replace(found, kept=()), 2).pairs == [], "no outliers: no neurons"


def test_a_study_that_names_no_protocol_source_or_layer_is_refused():
    for wrong in ({"protocols": ()}, {"source": "talk"}, {"top_layer": "below"}, {"num_registers": 0}):
        with pytest.raises(OptionError):
            MedicalSettings(**wrong)


def test_a_broken_set_is_skipped_by_name_and_the_rest_runs(small, run, cache, tmp_path):
    roots = write_medical_sets(tmp_path / "sets")
    (roots["orthonet"] / "test.csv").unlink()
    damaged = next((roots["pacemaker"] / "Test").rglob("3.png"))
    damaged.write_bytes(damaged.read_bytes()[:60])
    places = ",".join(f"{name}={root}" for name, root in roots.items())
    asked = ("--backbone", "phantom", "--protocol", "ours", "--roots", places, "--cache", cache, "--quiet")
    status, out, err = run("reproduce", "medical", *asked, "--out", tmp_path / "out")
    assert (status, err) == (1, "")
    reasons = [line for line in out.splitlines() if line.startswith("missing: ")]
    assert len(reasons) == 2
    assert reasons[0].startswith("missing: orthonet (dinov2-vit-l-14, clip-vit-b-16): ")
    assert "test.csv" in reasons[0]
    assert reasons[1].startswith("missing: pacemaker (dinov2-vit-l-14, clip-vit-b-16): ")
    assert "3.png" in reasons[1]
    table = pd.read_csv(tmp_path / "out/reproduction.csv", keep_default_na=False)
    assert set(table[table.missing == ""].dataset) == {"aptos"}
    assert set(table.dataset) == set(roots), "a missing set keeps its rows"
    kept = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert kept == {"aptos-dinov2-vit-l-14-ours", "aptos-clip-vit-b-16-ours"}
    skip = run("reproduce", "medical", *asked, "--out", tmp_path / "out", "--on-error", "skip")[1]
    assert [line.split()[1] for line in skip.splitlines() if line.startswith("missing: ")] == ["orthonet"]


@pytest.mark.slow
def test_six_cells_that_were_measured_end_with_status_0(small, run, roots, cache, tmp_path):
    places = ",".join(f"{name}={root}" for name, root in roots.items())
    asked = ("--backbone", "phantom", "--protocol", "published", "--top-layer", "alone", "--cache", cache)
    out = ("--roots", places, "--num-registers", 2, "--quiet", "--out", tmp_path / "out")
    assert run("reproduce", "medical", *asked, *out)[0] == 0
    settings = json.loads((tmp_path / "out/manifest.json").read_text())["settings"]
    assert (settings["num_registers"], settings["top_layer"]) == (2, "alone")
    for cell in (path for path in (tmp_path / "out").iterdir() if path.is_dir()):
        neurons = ttr.RegisterNeurons.load(cell / "neurons.json")
        assert {block for block, _ in neurons.pairs} == {neurons.provenance.top_layer}


def test_weights_that_are_missing_are_named_and_the_other_cells_are_measured(roots, cache, tmp_path):
    def only_clip(name):
        if name != "clip-vit-b-16":
            raise ModelError("the weights are elsewhere")
        return load(name)

    some = {"orthonet": roots["orthonet"]}
    table = reproduce_medical(some, only_clip, tmp_path / "out", PUBLISHED, Run(cache=cache))
    cells = table.groupby(["backbone", "dataset"]).missing.first()
    assert cells["dinov2-vit-l-14", "orthonet"] == "the weights are elsewhere"
    assert cells["clip-vit-b-16", "orthonet"] == ""
    assert "--roots aptos=DIR" in cells["clip-vit-b-16", "aptos"]


def test_a_set_without_one_cell_writes_nothing_and_leaves_an_earlier_result(roots, cache, tmp_path):
    def none(name):
        raise ModelError("no weights")

    with pytest.raises(
        DataError, match=r"not one cell .* orthonet \(dinov2-vit-l-14, clip-vit-b-16\): no we"
    ):
        reproduce_medical({"orthonet": roots["orthonet"]}, none, tmp_path / "out", None, Run(cache=cache))
    with pytest.raises(DataError, match=r"--roots orthonet=DIR.*--roots pacemaker=DIR.*--roots aptos=DIR"):
        reproduce_medical({}, load, tmp_path / "out", None, Run(cache=cache))
    with pytest.raises(OptionError, match="roots name 'retina'; the study has orthonet, pacemaker, aptos"):
        reproduce_medical({"retina": tmp_path}, load, tmp_path / "out", None, Run(cache=cache))
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_was_measured_and_what_is_missing(small, run, roots, cache, tmp_path):
    options = ("--backbone", "phantom", "--cache", cache, "--out", tmp_path / "out", "--quiet")
    places = f"orthonet={roots['orthonet']},aptos={tmp_path / 'none'}"
    status, out, err = run("reproduce", "medical", "--roots", places, *options)
    assert (status, err) == (1, "")
    said = " ".join(out.split())
    assert "dinov2-vit-l-14, protocol published, top1, per cent, changes in points" in said
    assert "dinov2-vit-l-14, protocol ours, top1, per cent, changes in points" in said
    header = said.split("clip-vit-b-16, protocol ours: per cent; macro averages")[1]
    assert all(word in header for word in ("top1", "top3", "f1", "precision", "recall", "auc"))
    header = next(line for line in out.splitlines() if "published" in line and "phantom" in line)
    assert header.index("published") < header.index("phantom"), "two columns"
    assert "A REHEARSAL: phantom was measured in place of the published backbones" in said
    assert "missing: pacemaker (dinov2-vit-l-14, clip-vit-b-16): no root was given for it" in said
    assert (
        "missing: aptos (dinov2-vit-l-14, clip-vit-b-16): root none of dataset aptos does not exist" in said
    )
    assert out.splitlines()[-1] == f"open: {tmp_path / 'out' / 'index.html'}"
    assert max(map(len, out.split("Kukade")[1].split("└")[0].splitlines())) <= 80


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "not one cell could be measured: orthonet"),
        (("--roots", "orthonet"), "--roots 'orthonet': needed NAME=PATH"),
        (("--roots", "retina=x"), "'retina'; the study has orthonet, pacemaker, aptos"),
        (("--roots", "aptos=x", "--roots", "aptos=y"), "names aptos twice: x and y"),
        (("--weights", "dino=x"), "'dino'; the study has dinov2-vit-l-14, clip-vit-b-16"),
        (("--backbone", "phantom", "--weights", "clip-vit-b-16=x"), "got --weights with --backbone"),
        (("--on-error", "ignore"), "on_error='ignore'"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(run, tmp_path, options, says):
    status, out, err = run("reproduce", "medical", "--out", tmp_path / "out", *options)
    assert status == 2
    assert says in err
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    assert not (tmp_path / "out").exists()


def test_without_weights_the_message_says_how_to_give_them(run, roots, tmp_path):
    where = f"orthonet={roots['orthonet']}"
    status, _, err = run("reproduce", "medical", "--roots", where, "--out", tmp_path / "out")
    assert status == 2
    assert "--pretrained, or --weights dinov2-vit-l-14=FILE" in err


def test_a_comma_belongs_to_a_path_unless_a_name_follows():
    found = parse_places("--roots", ["aptos=/a,b/c,orthonet=/d", " pacemaker = /e=f "])
    assert {name: str(path) for name, path in found.items()} == {
        "aptos": "/a,b/c",
        "orthonet": "/d",
        "pacemaker": "/e=f",
    }
