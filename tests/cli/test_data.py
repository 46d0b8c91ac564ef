"""``ttr data`` and detection over a labelled set, as a user meets them."""

from __future__ import annotations

import itertools
import json

import pytest
from PIL import Image

import ttr
from ttr.datasets.phantom import phantom_image
from ttr.datasets.registry import LOADERS, in_memory, open_dataset
from ttr.studies.compare.write import write_comparison


@pytest.fixture
def folder(tmp_path):
    """A folder set with nothing wrong."""
    for place, split in enumerate(("train", "val", "test")):
        for number in range(4):
            label = ("blobs", "stripes")[number % 2]
            path = tmp_path / "set" / split / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            index = (3, 1)[number % 2] + 6 * (4 * place + number)
            phantom_image(index, classes=6).image.save(path)
    return tmp_path / "set"


def test_a_card_is_readable_at_eighty_columns(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for name, loader in LOADERS.items():
        status, out, _ = run("data", "info", name)
        assert status == 0
        assert max(map(len, out.splitlines())) <= 80
        for text in vars(loader.card).values():
            assert all(word in out for word in text.split() if len(word) < 60)
    status, out, _ = run("data", "info")
    assert all(name in out for name in LOADERS)
    assert max(map(len, out.splitlines())) <= 80


def test_cards_for_machines(run):
    status, out, _ = run("data", "info", "aptos", "--json")
    assert status == 0
    assert json.loads(out)["metric"] == LOADERS["aptos"].card.metric
    assert [card["name"] for card in json.loads(run("data", "info", "--json")[1])] == list(LOADERS)
    status, _, err = run("data", "info", "aptoss")
    assert status == 2
    assert "did you mean aptos?" in err


def test_a_clean_set_has_status_0(run, folder, tmp_path):
    status, out, err = run("data", "check", "--dataset", "folder", "--root", folder)
    assert status == 0
    assert "nothing found that would mislead a benchmark" in out.splitlines()[-1]
    assert "All classes have the same number of training images" in out
    assert "checking" in err
    table = [line.split("│")[1:-1] for line in out.splitlines() if "│" in line]
    assert [[cell.strip() for cell in row] for row in table] == [
        ["blobs", "2", "2", "2"],
        ["stripes", "2", "2", "2"],
        ["all", "4", "4", "4"],
    ]


def test_nothing_found_says_what_was_not_looked_for(run, folder, tmp_path):
    images = sorted(folder.rglob("*.png"))
    rows = [f"{p.relative_to(folder)},{p.parent.name},{p.parts[-3]},7,{n}" for n, p in enumerate(images)]
    for header, says in (
        ("path,label,split,age,patient_id", "would mislead a benchmark"),
        ("path,label,split,age,visit", "leakage between patients was not checked (the set names none)"),
    ):
        (folder / "t.csv").write_text("\n".join([header, *rows]))
        options = ["--dataset", "csv", "--root", folder / "t.csv", "--quiet"]
        status, out, _ = run("data", "check", *options, "--out", tmp_path / "a.json")
        found = json.loads((tmp_path / "a.json").read_text())
        assert status == 0
        assert " ".join(out.split()).replace(f" open: {tmp_path / 'a.json'}", "").endswith(says)
        assert "columns that were not used: age" in out
        assert found["without_group"] == (0 if "patient" in header else 12)
    assert found["notes"] == ["columns that were not used: age, visit"]


@pytest.mark.parametrize("command", [["data", "check"], ["bench", "--backbone", "phantom", "--out", "b"]])
def test_a_set_of_one_class_is_refused(run, folder, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    (folder / "train/blobs/0.png").replace(folder / "0.png")
    rows = [f"{path.relative_to(folder)},well" for path in sorted(folder.rglob("*.png"))]
    (folder / "t.csv").write_text("\n".join(["path,label", *rows]))
    status, _, err = run(*command, "--dataset", "csv", "--root", folder / "t.csv", "--quiet")
    assert status == 2
    assert "csv has the single class 'well', and nothing to tell it from; needed two or more: perhaps" in err
    assert not (tmp_path / "b").exists()


def test_a_set_that_misleads_has_status_1_and_says_why(run, folder, tmp_path):
    image = folder / "train" / "blobs" / "0.png"
    copy = folder / "test" / "stripes" / "[red]copy.png"
    copy.write_bytes(image.read_bytes())
    for number in range(15):
        (folder / "train" / "blobs" / f"cut {number}.png").write_bytes(image.read_bytes()[: 900 + number])
    (folder / "val" / "blobs" / "again.jpg").touch()
    Image.open(image).convert("RGB").save(folder / "val" / "blobs" / "again.jpg")
    out_file = tmp_path / "audit.json"
    options = ["--dataset", "folder", "--root", folder, "--quiet", "--out", out_file]
    status, out, err = run("data", "check", *options)
    assert status == 1
    assert err == ""
    assert "folder would mislead a benchmark: images that are missing or damaged; exact duplicates" in out
    assert "train/blobs/0.png (train, blobs) | test/stripes/[red]copy.png (test, stripes)" in out
    assert out.count("is damaged or truncated") == 10
    assert "The largest class has 8.5 times as many training images as the smallest" in out
    assert "... and 5 more" in out
    assert out.rstrip().endswith(f"open: {out_file}")
    written = json.loads(out_file.read_text())
    assert len(written["findings"]["unreadable"]["cases"]) == 15
    assert written["causes"] == [
        *("unreadable", "test-duplicate", "test-near-duplicate", "conflicting-labels"),
    ]
    status, out, err = run("data", "check", *options, "--json")
    assert status == 1
    assert json.loads(out) == written


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            ["1.png,a,train", "2.png,b,test", "3.png,a,val"],
            "label 'b' of 2.png is in the test split and never",
        ),
        (["../../etc/passwd,a,train"], "line 2: path '../../etc/passwd' leads out of"),
    ],
)
def test_a_table_that_cannot_be_trusted_is_refused(run, tmp_path, rows, says):
    (tmp_path / "set").mkdir()
    table = tmp_path / "set" / "t.csv"
    table.write_text("\n".join(["path,label,split", *rows]))
    status, out, err = run("data", "check", "--dataset", "csv", "--root", table)
    assert status == 2
    assert says in err
    assert len(err.splitlines()) == 1
    assert out == ""


DETECT = ["detect", "--backbone", "phantom", "--quiet"]


@pytest.mark.parametrize("option", ["--num-images", pytest.param("--limit", marks=pytest.mark.slow)])
def test_detection_over_a_labelled_set_looks_at_training_images_alone(run, folder, tmp_path, option):
    """Only the training images can be read at all; the sample is seeded."""
    for split in ("val", "test"):
        for path in (folder / split).rglob("*.png"):
            path.write_text("no image")
    found = []
    for seed in (1, 1, 5):
        out = tmp_path / f"{len(found)}.json"
        where = ["--dataset", "folder", "--root", folder, "--out", out]
        assert run(*DETECT, *where, option, 2, "--seed", seed)[0] == 0
        found.append(ttr.RegisterNeurons.load(out))
    assert found[0] == found[1]
    assert found[0].ranked != found[2].ranked
    assert found[0].provenance.images == 2
    assert found[0].provenance.image_set == "folder, training split, 2 of 4 images, seed 1"
    dataset = open_dataset("folder", folder)
    rankings = [
        ttr.detect(ttr.load("phantom"), [dataset.open(item) for item in pair]).ranked
        for pair in itertools.combinations(dataset.select("train"), 2)
    ]
    assert found[0].ranked in rankings


def test_a_whole_set_is_named_and_the_page_says_it(run, folder, tmp_path):
    out = tmp_path / "n.json"
    assert run(*DETECT, "--dataset", "folder", "--root", folder, "--out", out)[0] == 0
    neurons = ttr.RegisterNeurons.load(out)
    assert neurons.provenance.image_set == "folder, training split, 4 images"
    image = phantom_image(0).image
    write_comparison(ttr.load("phantom"), neurons, in_memory({"one": image}), tmp_path / "page")
    page = (tmp_path / "page" / "index.html").read_text()
    assert "Found on: folder, training split, 4 images." in page


def test_files_from_before_image_sets_were_named_still_load(tmp_path):
    path = tmp_path / "n.json"
    values = {"schema": "ttr.register-neurons/1", "pairs": [[2, 7]], "provenance": {"images": 3}}
    path.write_text(json.dumps(values))
    assert ttr.RegisterNeurons.load(path).provenance.image_set is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "got neither --images nor --dataset; needed one of them"),
        (["--images", "x", "--dataset", "phantom"], "got --images and --dataset; needed one of them"),
        (["--images", "x", "--root", "."], "--root with --images"),
        (["--images", "x", "--finding", "x"], "--finding with --images"),
        (["--dataset", "orthonet"], "needs its root"),
        (["--dataset", "phantom", "--root", "."], "has no root"),
    ],
)
def test_images_come_from_one_place(run, tmp_path, arguments, says):
    status, _, err = run(*DETECT, *arguments, "--out", tmp_path / "n.json")
    assert status == 2
    assert says in err
    assert list(tmp_path.iterdir()) == []
