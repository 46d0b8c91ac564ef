"""``ttr reproduce attention-maps``: open slots, a planted order, and the numbers of ``ttr localize``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import ttr
from tests.tools.report_page import held_to_the_design
from ttr.cli.reproduce.attention_maps import _loader
from ttr.cli.study_models import StudyModels
from ttr.datasets.phantom_lesions import phantom_lesions
from ttr.datasets.registry import Outlines
from ttr.errors import DataError, ModelError, OptionError
from ttr.run import Run
from ttr.studies.localize.settings import LocalisationSettings
from ttr.studies.localize.write import write_localisation
from ttr.studies.reproduce.attention_maps import FURTHER, open_sets, reasons, reproduce_attention_maps
from ttr.studies.reproduce.published import published_studies
from ttr.studies.reproduce.transcribed import read_transcribed
from ttr.studies.schemas import is_result

STUDY = published_studies()["attention-maps"]
METRICS, METHODS = STUDY.settings["metrics"], STUDY.settings["methods"]
PATIENT = "DOE^JANE"
COUNTS = {"train": 24, "val": 10, "test": 24}
TYPED = {("dino", "kvasir", "chefer", "pointing_any"): 0.625}


def load(model: str, dataset: str) -> ttr.Backbone:
    """Return a phantom for one of the models; the weights of the others are elsewhere."""
    if model != "dino":
        raise ModelError("its weights are elsewhere")
    return ttr.load("phantom", image_size=112)


@pytest.fixture(scope="module")
def lesions():
    return replace(phantom_lesions(counts=COUNTS), name="kvasir")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("maps") / "out"


@pytest.fixture(scope="module")
def tables(lesions, out, cache):
    sets = {"kvasir": lesions, "mura": "no table was given for it"}
    run = Run(cache=cache, batch_size=16)
    return reproduce_attention_maps(load, ["dino", "mae"], sets, out, None, run, published=TYPED)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A table of a few phantom lesions with masks, as a user describes a set of the study."""
    root, rows = tmp_path_factory.mktemp("set"), ["path,label,split,mask"]
    dataset = phantom_lesions(counts={"train": 6, "val": 4, "test": 6})
    outlines = Outlines.of(dataset)
    for number, item in enumerate(dataset.items):
        dataset.open(item).save(root / f"{PATIENT}-{number}.png")
        Image.fromarray(255 * outlines.draw(item, (224, 224))).save(root / f"mask-{number}.png")
        rows.append(f"{PATIENT}-{number}.png,{item.label},{item.split},mask-{number}.png")
    (root / "table.csv").write_text("\n".join(rows))
    return root / "table.csv"


def test_the_order_of_methods_is_the_planted_one(tables):
    """What asks for the class finds the spot; attention does so once its neurons have moved."""
    order = tables["order"].set_index(["arm", "first", "metric"])
    found = order.loc["plain", "chefer", "pointing_any"]
    assert (found.second, found.stated, found.verdict) == ("attention", "higher", "higher")
    table = tables["reproduction"]
    rows = table[table.missing == ""].set_index(["method", "arm", "metric"])
    for metric in ("box_iou_10", "iou_otsu"):
        plain, moved = (rows.loc["attention", arm, metric] for arm in ("plain", "ttr"))
        assert plain.measured < moved.measured
        assert moved.verdict == "higher"
        assert plain.verdict == ""
    spot = rows.loc["chefer", "plain", "pointing_any"]
    assert spot.ci_low > max(spot.random_map, spot.centre_map)


def by_place(path):
    return pd.read_csv(path).set_index(["method", "arm", "metric"])


def test_the_numbers_are_those_of_the_localisation_beside_them(out):
    nested = by_place(out / "dino-kvasir" / "localisation.csv")
    table = pd.read_csv(out / "reproduction.csv")
    measured = table[table.measured.notna()]
    assert len(measured) == len(METHODS) * 2 * (len(METRICS) + len(FURTHER))
    for row in measured.itertuples():
        expected = nested.loc[row.method, row.arm, row.metric]
        assert (row.measured, row.ci_low, row.ci_high) == tuple(expected[["value", "ci_low", "ci_high"]])
        assert (row.n, row.random_map) == (expected.n, expected.baseline)
        assert row.centre_map == nested.loc["baseline", "centre-map", row.metric].value


@pytest.mark.slow  # a localisation is made twice
def test_that_localisation_is_the_commands_own_on_the_same_images(tables, lesions, out, cache, tmp_path):
    asked = LocalisationSettings(arms=("plain", "ttr"), methods=tuple(METHODS))
    run = Run(cache=cache, batch_size=16)
    write_localisation(load("dino", ""), lesions, None, tmp_path / "own", asked, run)
    own, nested = (by_place(place / "localisation.csv") for place in (tmp_path / "own", out / "dino-kvasir"))
    pd.testing.assert_frame_equal(nested.loc[own.index], own)


def test_what_is_missing_keeps_its_slots_and_says_why(tables, out):
    table = tables["reproduction"]
    missing = table[table.missing != ""]
    assert reasons(table) == [
        "mura (dino, mae): no table was given for it",
        "kvasir (mae): its weights are elsewhere",
    ]
    assert len(missing) == 3 * len(METHODS) * len(METRICS)
    assert missing[["measured", "ci_low", "published"]].isna().all(axis=None)
    typed = table[table.published.notna()]
    assert typed[["model", "set", "method", "arm", "metric", "published"]].to_numpy().tolist() == [
        ["dino", "kvasir", "chefer", "plain", "pointing_any", 0.625]
    ]
    assert is_result(out)
    manifest = json.loads((out / "manifest.json").read_text())
    assert {p.name for p in out.iterdir()} == {*manifest["files"], "manifest.json"}
    assert [cell["missing"] for cell in manifest["cells"]].count(None) == 1
    assert manifest["cells"][0]["neurons"] > 0
    page = held_to_the_design(out / "index.html").whole
    for words in (
        "A phantom",
        "45 rows: the numbers",
        "so typed: 1",
        "62.5",
        "Stated: chefer higher than attention; with the arm plain",
        "its weights are",
    ):
        assert words in page
    assert "A rehearsal" not in page
    assert "https://" not in page


def test_nothing_to_measure_is_refused_and_leaves_nothing(tmp_path, lesions):
    with pytest.raises(DataError, match=r"not one cell could be measured: kvasir \(mae\): its weights are"):
        reproduce_attention_maps(load, ["mae"], {"kvasir": lesions}, tmp_path / "out")
    with pytest.raises(OptionError, match="arms ttr; needed plain among them"):
        wrong = LocalisationSettings(arms=("ttr",))
        reproduce_attention_maps(load, ["dino"], {"kvasir": lesions}, tmp_path / "out", wrong)
    assert not (tmp_path / "out").exists()


def test_a_set_that_cannot_be_opened_is_named_without_its_folder(tmp_path):
    (tmp_path / "erika").mkdir()
    (tmp_path / "erika" / "t.csv").write_text("file,label\n")
    found = open_sets(("duke", "mura"), {"duke": tmp_path / "erika" / "t.csv"}, anonymous=False)
    assert "t.csv" in found["duke"]
    assert "erika" not in found["duke"]
    assert "--roots mura=TABLE" in found["mura"]
    hidden = open_sets(("duke",), {"duke": tmp_path / "erika" / "t.csv"}, anonymous=True)
    assert "t.csv" not in hidden["duke"]


@pytest.fixture
def tiny_models(monkeypatch):
    """Let every name be a tiny phantom."""
    tiny = ttr.load("phantom", image_size=64)
    monkeypatch.setattr("ttr.cli.study_models.load_backbone", lambda model: tiny)


@pytest.mark.slow  # what is missing is held above, for the table
@pytest.mark.usefixtures("tiny_models")
def test_sets_and_models_that_are_not_there_are_named_and_the_rest_runs(run, root, tmp_path):
    (tmp_path / "typed.csv").write_text("model,set,method,metric,value\nmae,kvasir,gradcam,box_iou_20,12.5\n")
    given = ("--roots", f"kvasir={root}", "--pretrained", "--published", tmp_path / "typed.csv")
    where = ("--quiet", "--cache", tmp_path / "cache", "--out", tmp_path / "out")
    status, said, err = run("reproduce", "attention-maps", *given, "--arms", "plain", "--anonymous", *where)
    assert (status, err) == (1, "")
    words = " ".join(said.split())
    assert "missing: cp-child (random, supervised, dino, mae): no table was given for it: --roots" in words
    assert "missing: kvasir (random): it was trained from scratch on each set" in words
    assert "REHEARSAL" not in words
    table = pd.read_csv(tmp_path / "out" / "reproduction.csv")
    assert set(table[table.measured.notna()].model) == {"supervised", "dino", "mae"}
    assert set(table[table.measured.notna()].set) == {"kvasir"}
    assert table[table.published.notna()].published.tolist() == [0.125]
    assert "12.5" in words
    written = "".join(path.read_text() for path in (tmp_path / "out").rglob("*.*"))
    assert PATIENT not in written + said
    assert str(root.parent) not in written + said


@pytest.mark.usefixtures("tiny_models")
@pytest.mark.slow  # the sentence is of one place, and held in test_decoupling.py
def test_a_rehearsal_says_loudly_that_it_is_one_and_has_no_published_number(run, tmp_path):
    small = ("--num-images", 4, "--arms", "plain", "--quiet", "--cache", tmp_path / "cache")
    rehearsal = ("--backbone", "phantom", "--dataset", "phantom-lesions", "--out", tmp_path / "out")
    status, said, err = run("reproduce", "attention-maps", *rehearsal, *small)
    assert (status, err) == (0, "")
    words = " ".join(said.split())
    assert (
        "A REHEARSAL: phantom, phantom-lesions were measured in place of the published models and sets"
        in words
    )
    assert "A rehearsal" in (tmp_path / "out" / "index.html").read_text()
    status, _, err = run("reproduce", "attention-maps", *rehearsal, *small, "--published", tmp_path / "t.csv")
    assert (status, "a rehearsal has no published cell" in err) == (2, True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--roots", "kvasir2=t.csv"), "kvasir2"),
        (("--weights", "clip=w.pt"), "clip"),
        (("--weights", "dino-chest=w.pt"), "dino-chest"),
        (("--dataset", "phantom-lesions", "--roots", "mura=t.csv"), "got --roots with --dataset"),
        (("--root", "."), "add --dataset NAME"),
        (("--published", "none.csv"), "none.csv"),
        (("--arms", "plain,bare"), "arms plain, bare"),
        ((), "not one cell could be measured"),
    ],
)
def test_wrong_options_are_refused(run, tmp_path, options, says):
    status, out, err = run("reproduce", "attention-maps", *options, "--out", tmp_path / "out")
    assert status == 2
    assert says in err
    assert "Traceback" not in out + err
    assert not (tmp_path / "out").exists()


def test_weights_of_a_set_come_before_those_of_the_model(monkeypatch):
    asked = []
    monkeypatch.setattr("ttr.cli.study_models.load_backbone", asked.append)
    models = StudyModels(weights=["dino=all.pth,dino-mura=mura.pth", "random-duke=duke.pth"])
    of = _loader(STUDY, models, None)
    for place in (("dino", "kvasir"), ("dino", "mura"), ("random", "duke")):
        of(*place)
    assert [(each.backbone, str(each.weights), each.image_size) for each in asked] == [
        ("timm:vit_base_patch16_224.dino", "all.pth", 224),
        ("timm:vit_base_patch16_224.dino", "mura.pth", 224),
        ("timm:vit_base_patch16_224", "duke.pth", 224),
    ]
    with pytest.raises(ModelError, match="--weights random=FILE, or random-SET=FILE"):
        of("random", "mura")
    with pytest.raises(ModelError, match="no weights were given for it: --pretrained, or --weights mae=FILE"):
        of("mae", "mura")


def typed(tmp_path: Path, *rows: str) -> dict[tuple[str, ...], float]:
    (tmp_path / "t.csv").write_text("\n".join(["model,set,method,metric,value", *rows]))
    return read_transcribed(tmp_path / "t.csv", {key: tuple(STUDY.settings[f"{key}s"]) for key in STUDY.keys})


def test_numbers_are_read_in_per_cent(tmp_path):
    rows = ("mae,duke,attention,box_iou_5,12.5", "mae,duke,attention,box_iou_10,0")
    assert typed(tmp_path, *rows) == {
        ("mae", "duke", "attention", "box_iou_5"): 0.125,
        ("mae", "duke", "attention", "box_iou_10"): 0,
    }


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (
            "clip,duke,attention,box_iou_5,12",
            "line 3: model 'clip'; the study has random, supervised, dino, mae",
        ),
        ("mae,chest,attention,box_iou_5,12", "set 'chest'; the study has cp-child, duke, kvasir, mura"),
        ("mae,duke,rollout,box_iou_5,12", "method 'rollout'; the study has attention, gradcam, chefer"),
        ("mae,duke,attention,iou,12", "metric 'iou'; the study has pointing_any, box_iou_5"),
        ("mae,duke,attention,box_iou_5,100.1", "value '100.1'; needed per cent"),
        ("mae,duke,attention,box_iou_5,-1", "value '-1'; needed per cent"),
        ("mae,duke,attention,box_iou_5,nan", "value 'nan'; needed per cent"),
        ("mae,duke,attention,box_iou_5,high", "value 'high'; needed per cent"),
        ("mae,duke,attention,pointing_any,51", "mae, duke, attention, pointing_any stands twice"),
    ],
)
def test_rows_of_no_cell_and_no_numbers_are_refused(tmp_path, row, says):
    with pytest.raises(DataError) as refused:
        typed(tmp_path, "mae,duke,attention,pointing_any,50", row)
    assert says in str(refused.value)


def test_shares_in_place_of_per_cent_and_a_missing_column_are_refused(tmp_path):
    with pytest.raises(DataError, match="all numbers are 1 or less"):
        typed(tmp_path, "mae,duke,attention,pointing_any,0.5")
    (tmp_path / "u.csv").write_text("model,set,metric,value\nmae,duke,pointing_any,50")
    with pytest.raises(DataError, match="method missing"):
        read_transcribed(tmp_path / "u.csv", dict.fromkeys(STUDY.keys, ()))
