"""A folder with damaged files: refused by name, or left out by name, and every number is of what was read."""

from __future__ import annotations

import json

import pytest

import ttr
from ttr.datasets.registry import open_dataset, phantom_images

BAD = ("empty.png", "text.png", "truncated.png")
GOOD = 7
SMALL = ("--image-size", 64, "--quiet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven pictures and three files that only look like some, in a folder a class and split."""
    root = tmp_path_factory.mktemp("pictures")
    inside = [root / split / label for split in ("train", "test") for label in ("a", "b")]
    for place in inside:
        place.mkdir(parents=True)
        for drawn in phantom_images(GOOD):
            drawn.image.save(place / f"{drawn.name}.png")
        whole = (place / f"{drawn.name}.png").read_bytes()
        for name, content in zip(BAD, (b"", b"no picture", whole[:200]), strict=True):
            (place / name).write_bytes(content)
    rows = [
        f'{path.relative_to(root)},{path.parts[-2]},{path.parts[-3]},"9,9,99,99"'
        for path in root.rglob("*.png")
    ]
    (root / "boxes.csv").write_text("\n".join(["path,label,split,box", *sorted(rows)]))
    return root


@pytest.fixture(scope="module")
def neurons(tmp_path_factory):
    """Files with the planted neurons of two phantoms, by name."""
    files = {
        name: tmp_path_factory.mktemp("neurons") / f"{name}.json" for name in ("phantom", "phantom-clip")
    }
    for name, path in files.items():
        ttr.RegisterNeurons.from_pairs(ttr.load(name, image_size=64).planted).save(path)
    return files


@pytest.fixture
def command(folder, neurons, tmp_path):
    """Return the words of a command over the folder, or over one of its classes, and where it writes."""
    one = folder / "train" / "a"
    phantom, out = ("--backbone", "phantom", *SMALL), tmp_path / "out"
    words = {
        "detect": ("detect", *phantom, "--images", one, "--out", tmp_path / "out.json"),
        "tune": ("tune", *phantom, "--images", one, "--top-k", "1", "--num-registers", "1", "--out", out),
        "compare": ("compare", *phantom, "--neurons", neurons["phantom"], "--out", out, one),
        "scan": ("scan", *phantom, "--images", one, "--out", out),
        "integrate": ("integrate", *phantom, "--dataset", "folder", "--root", folder, "--out", out),
        "zero-shot": (
            *("zero-shot", "--backbone", "phantom-clip", *SMALL, "--neurons", neurons["phantom-clip"]),
            *("--classes", "a,b", "--out", tmp_path / "out.json", one),
        ),
    }
    words["integrate"] += ("--num-registers", "0,1", "--blocks", "last")
    words["localize"] = (
        *("localize", *phantom, "--dataset", "csv", "--root", folder / "boxes.csv", "--out", out),
        *("--neurons", neurons["phantom"], "--arms", "plain,ttr", "--methods", "attention"),
    )
    return words, out


@pytest.mark.parametrize("name", ["scan", "detect", "tune", "compare", "integrate", "localize", "zero-shot"])
def test_a_bad_image_is_refused_by_name_with_the_way_out_and_nothing_is_left(run, command, tmp_path, name):
    words, _ = command
    status, _, error = run(*words[name])
    assert status == 2
    assert error.count("\n") == 1
    assert any(bad in error for bad in BAD)
    assert error.strip().endswith("leave bad images out with --on-error skip")
    assert [path for path in tmp_path.iterdir() if path.name.startswith((".", "out"))] == []


def skipped_of(result: dict) -> set[str]:
    return {name.rpartition("/")[2] for name in result["skipped"]}


def test_detection_leaves_them_out_and_says_which_also_from_the_cache(run, command, tmp_path):
    words, _ = command
    for _ in range(2):
        status, said, _ = run(*words["detect"], "--on-error", "skip", "--cache", tmp_path / "cache")
        assert status == 0
        assert "left out as unreadable: 3 images" in said
        assert all(bad in said for bad in BAD)
        assert ttr.RegisterNeurons.load(tmp_path / "out.json").provenance.images == GOOD
    status, _, error = run(*words["detect"], "--cache", tmp_path / "cache")
    assert status == 2
    assert error.count("leave bad images out with --on-error skip") == 1


def test_tuning_counts_and_lists_what_it_read(run, command):
    words, out = command
    status, said, _ = run(*words["tune"], "--on-error", "skip")
    assert status == 0
    assert "left out as unreadable: 3 images; manifest.json names them" in said
    result, manifest = (json.loads((out / name).read_text()) for name in ("tune.json", "manifest.json"))
    assert skipped_of(result) == skipped_of(manifest) == set(BAD)
    used = [*result["found_on"], *result["measured_on"]]
    assert len(used) == GOOD
    assert not any(name.endswith(BAD) for name in used)
    counts = (
        f"found on {len(result['found_on'])} images and measured on {len(result['measured_on'])} other images"
    )
    assert counts in result["notes"][0]
    assert "3 images left out" in " ".join((out / "index.html").read_text().replace("<strong>", "").split())


def test_a_comparison_shows_the_others_and_says_so(run, command):
    words, out = command
    status, said, _ = run(*words["compare"], "--on-error", "skip")
    assert status == 0
    assert "left out as unreadable: 3 images" in said
    assert len(json.loads((out / "compare.json").read_text())) == GOOD
    assert skipped_of(json.loads((out / "manifest.json").read_text())) == set(BAD)
    assert "3 images left out" in (out / "index.html").read_text()


def test_an_integration_counts_what_it_read_in_every_split(run, command, folder):
    words, out = command
    status, said, _ = run(*words["integrate"], "--on-error", "skip")
    assert status == 0
    items = [item for split in ("train", "test") for item in open_dataset("folder", folder).select(split)]
    bad = [item.name for item in items if item.name.endswith(BAD)]
    manifest = json.loads((out / "manifest.json").read_text())
    read = {split: sum(i.split == split for i in items if i.name not in bad) for split in ("test", "train")}
    assert manifest["dataset"] == {"name": "folder", **read}
    assert set(manifest["skipped"]) == set(bad)
    assert f"left out as unreadable: {len(bad)} images" in said
    assert f"{len(bad)} images left out" in (out / "index.html").read_text()


def test_a_localisation_counts_what_it_read(run, command):
    words, out = command
    status, said, _ = run(*words["localize"], "--on-error", "skip")
    assert status == 0
    assert "left out as unreadable: 6 images" in said
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["dataset"]["images"] == {"test": 2 * GOOD}
    assert skipped_of(manifest["dataset"]) >= set(BAD)
    assert "6 images left out" in (out / "index.html").read_text()


def test_class_probabilities_are_those_of_the_images_that_were_read(run, command, tmp_path):
    words, _ = command
    status, said, _ = run(*words["zero-shot"], "--on-error", "skip")
    assert status == 0
    assert "left out as unreadable: 3 images" in said
    result = json.loads((tmp_path / "out.json").read_text())
    assert len(result["images"]) == GOOD
    assert not any(entry["image"].endswith(BAD) for entry in result["images"])
    assert skipped_of(result) == set(BAD)


def test_a_path_that_does_not_exist_is_a_mistake_and_no_bad_image(run, command, tmp_path):
    words, _ = command
    status, _, error = run(*words["compare"], tmp_path / "nowhere.png", "--on-error", "skip")
    assert status == 2
    assert "nowhere.png does not exist" in error


def test_without_a_cache_that_can_be_written_neurons_are_found_all_the_same(
    run, command, tmp_path, monkeypatch
):
    words, _ = command
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    status, said, _ = run(*words["detect"], "--on-error", "skip")
    assert status == 0
    assert "Not kept for the next command: the cache cannot be written" in said
    assert (tmp_path / "out.json").exists()
    (tmp_path / "out.json").unlink()
    monkeypatch.setattr("ttr.features.prepared.detect", lambda *_, **__: pytest.fail("the work has begun"))
    status, _, error = run(*words["detect"], "--cache", tmp_path / "file")
    assert status == 2
    assert "cannot be written" in error


def test_options_are_refused_before_a_model_is_loaded(run, command, monkeypatch):
    words, _ = command
    monkeypatch.setattr("ttr.backbones.loading.load", lambda *_, **__: pytest.fail("a model was loaded"))
    for name in ("detect", "tune", "compare", "integrate"):
        status, _, error = run(*words[name], "--on-error", "ignore")
        assert status == 2
        assert "on_error='ignore'; needed 'raise' or 'skip'" in error


@pytest.mark.parametrize(("given", "dtype"), [("bf16", "bfloat16"), ("float64", "float64")])
def test_another_type_runs_and_is_recorded(run, command, given, dtype):
    words, out = command
    status, _, said = run(*words["compare"], "--on-error", "skip", "--dtype", given)
    assert status == 0, said
    made = json.loads((out / "manifest.json").read_text())["provenance"]
    assert made["backbone"]["dtype"] == dtype
    status, _, error = run(*words["compare"], "--dtype", "int8")
    assert status == 2
    assert "dtype='int8'; needed one of float32, bfloat16" in error


def test_what_one_command_found_another_is_given(run, command, folder, tmp_path, monkeypatch):
    words, _ = command
    kept = ("--cache", tmp_path / "cache", "--on-error", "skip")
    whole = ("--dataset", "folder", "--root", folder)
    assert run("detect", "--backbone", "phantom", *SMALL, *whole, "--out", tmp_path / "n.json", *kept)[0] == 0
    monkeypatch.setattr("ttr.features.prepared.detect", lambda *_, **__: pytest.fail("detected twice"))
    status, _, error = run(*words["integrate"], *kept)
    assert status == 0, error
