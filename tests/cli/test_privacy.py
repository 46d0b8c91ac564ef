"""Files named after a patient: nothing that is written carries a folder's name, nor, if asked, any name."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tests.tools.no_way_out.sitecustomize  # noqa: F401  sockets are watched from here on
import ttr
from tests.tools.patients import FILE, FOLDER, GROUP, patients, where
from ttr.datasets.registry import ReadAhead, folder_images, given_images, groups_of, open_dataset
from ttr.features.extract import extract
from ttr.registers.arms import PLAIN
from ttr.run import Run

SMALL = ("--image-size", 64, "--quiet", "--on-error", "skip")
PHANTOM = ("--backbone", "phantom", *SMALL)


@pytest.fixture(autouse=True)
def _nobody_is_asked(monkeypatch, tmp_path_factory):
    record = tmp_path_factory.mktemp("sockets") / "reached"
    monkeypatch.setenv("TTR_TEST_REACHED", str(record))
    yield
    assert not record.exists(), record.read_text()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return patients(tmp_path_factory.mktemp("given"))


@pytest.fixture(scope="module")
def neurons(tmp_path_factory):
    """Files with the planted neurons of two phantoms, by name."""
    place = tmp_path_factory.mktemp("neurons")
    for name in ("phantom", "phantom-clip"):
        ttr.RegisterNeurons.from_pairs(ttr.load(name, image_size=64).planted).save(place / f"{name}.json")
    return place


def words(name: str, root: Path, neurons: Path, out: Path) -> tuple[object, ...]:
    """Return the words of a command that reads the patients' files and writes below ``out``."""
    one, table = root / "train" / "a", ("--dataset", "csv", "--root", root / "table.csv")
    found, folder = ("--neurons", neurons / "phantom.json"), out / "result"
    cache = ("--cache", out / "cache")
    few = ("--num-registers", "0,1", "--num-images", 6)
    return {
        "compare": ("compare", *PHANTOM, *found, "--out", folder, one, root / "test" / "a" / f"{FILE}-0.png"),
        "scan": ("scan", *PHANTOM, "--images", one, "--out", folder),
        "embed": ("embed", *PHANTOM, *found, "--images", one, "--out", folder),
        "detect": ("detect", *PHANTOM, *cache, "--images", one, "--out", out / "neurons.json"),
        "tune": (
            *("tune", *PHANTOM, *cache, "--images", one, "--out", folder),
            *("--top-k", "1,5", "--num-registers", "1"),
        ),
        "zero-shot": (
            *("zero-shot", "--backbone", "phantom-clip", *SMALL, "--classes", "a,b", one),
            *("--neurons", neurons / "phantom-clip.json", "--out", out / "scores.json"),
        ),
        "check": ("data", "check", *table, "--quiet", "--out", out / "audit.json"),
        "bench": (
            *("bench", *PHANTOM, *cache, *table, "--out", folder),
            *("--arms", "plain,ttr", "--heads", "logistic", "--seeds", "42"),
        ),
        "ablate": (
            *("ablate", "--backbone", "phantom-reg4", *SMALL, *cache, *table, "--out", folder),
            *("--conditions", "full,registers:zero,registers:noise", "--analysis-images", 4, "--layers", 2),
        ),
        "integrate": ("integrate", *PHANTOM, *cache, *table, *few, "--out", folder),
        "localize": (
            *("localize", *PHANTOM, *cache, *table, *found, "--out", folder),
            *("--arms", "plain,ttr", "--methods", "attention", "--discovery"),
        ),
        "medical": (
            *("reproduce", "medical", "--backbone", "phantom", "--quiet", "--on-error", "skip", *cache),
            *("--roots", f"aptos={root},orthonet={root / 'none'}", "--out", folder),
        ),
        "decoupling": (
            *("reproduce", "decoupling", "--backbone", "phantom", "--quiet", "--on-error", "skip", *cache),
            *(*table, "--num-images", 6, "--out", folder),
        ),
        "zero-ablation": (
            *("reproduce", "zero-ablation", "--backbone", "phantom-reg4", "--quiet", "--on-error", "skip"),
            *(*cache, *table, "--analysis-images", 4, "--out", folder),
        ),
    }[name]


def own(root: Path, out: Path) -> tuple[str, ...]:
    """Return what no file may hold: the folder's name, the way to it, and whose machine this is."""
    host = (socket.gethostname(),) * (len(socket.gethostname()) > 5)  # "vm" stands in any text
    return (FOLDER, str(root.parent), str(out), f"{Path.home()}/", *host)


QUICK = ("scan", "detect", "check", "embed", "localize")
SLOW = ("compare", "zero-shot", "bench", "tune", "ablate", "integrate", "decoupling", "zero-ablation")


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_what_is_written_names_no_folder_and_on_request_no_file_and_no_patient(
    run, root, neurons, tmp_path, name
):
    for anonymous in (False, True):
        out = tmp_path / f"anonymous {anonymous}"
        option = ("--anonymous",) if anonymous else ()
        status, said, refused = run(*words(name, root, neurons, out), *option)
        assert (status, refused) == (1 if name in ("check", "zero-ablation") else 0, "")
        assert any(out.iterdir())
        if anonymous:
            assert where((*own(root, tmp_path), FILE, GROUP), out) == []
            assert FILE not in said
            assert GROUP not in said
        else:
            assert where(own(root, tmp_path), out) == []
            assert name in ("integrate", "decoupling") or where((FILE,), out)  # what is there is found


@pytest.mark.slow
def test_the_numbers_are_the_same(run, root, neurons, tmp_path):
    table, cache = ("--dataset", "csv", "--root", root / "table.csv"), ("--cache", tmp_path / "cache")
    few = ("--arms", "plain,neurons", "--heads", "logistic", "--neurons", neurons / "phantom.json")
    named, numbered = (tmp_path / "named", tmp_path / "numbered")
    assert run("bench", *PHANTOM, *table, *cache, *few, "--out", named)[0] == 0
    assert run("bench", *PHANTOM, *table, *cache, *few, "--out", numbered, "--anonymous")[0] == 0
    for name in ("results.csv", "comparisons.csv"):
        assert (named / name).read_bytes() == (numbered / name).read_bytes()
    tables = [pd.read_parquet(folder / "predictions.parquet") for folder in (named, numbered)]
    assert tables[0].drop(columns="image").equals(tables[1].drop(columns="image"))
    assert tables[0].image.str.startswith("test/").all()
    assert tables[1].image.str.fullmatch(r"image \d+").all()


def test_the_cache_holds_no_name_and_serves_images_whatever_they_are_called(root, tmp_path):
    backbone = ttr.load("phantom", image_size=64)
    named = open_dataset("csv", root / "table.csv")
    run = Run(cache=tmp_path, on_error="skip")
    (first,) = extract(backbone, named, [PLAIN], run)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("part-*")}
    assert where((FILE, GROUP, FOLDER), tmp_path) == []
    (second,) = extract(backbone, named.anonymous(), [PLAIN], run)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("part-*")} == kept
    assert first.skipped["train/a/DOE^JANE_1950-bad.png"].startswith(
        "train/a/DOE^JANE_1950-bad.png is not an"
    )
    assert len(first.skipped) == len(second.skipped) == 4
    assert all(reason.startswith(f"{name} is not an image") for name, reason in second.skipped.items())
    assert [item.draw_name for item in second.items] == [item.name for item in first.items]
    assert all((first.arrays[name] == second.arrays[name]).all() for name in first.arrays)


def test_an_anonymous_set_keeps_its_order_its_draws_and_the_order_of_its_groups(root):
    named = open_dataset("csv", root / "table.csv")
    numbered = named.anonymous()
    assert [item.name for item in numbered.items] == [f"image {n}" for n in range(1, 29)]
    assert (named.name, named.classes, named.card) == (numbered.name, numbered.classes, numbered.card)
    for one, other in zip(named.items, numbered.items, strict=True):
        assert (one.label, one.split, one.path, one.name) == (
            *(other.label, other.split, other.path, other.draw_name),
        )
    units, numbers = groups_of(named.items), groups_of(numbered.items)
    # Resampling walks through the groups in the order of their names.
    assert np.array_equal(*(np.unique(each, return_inverse=True)[1] for each in (units, numbers)))
    assert set(numbers) == {f"group {n}" for n in range(1, 7)}
    assert numbered.anonymous().items == numbered.items


def test_images_are_named_below_the_folder_that_was_given_and_numbered_in_order(root):
    one, other = (root / "test" / label / f"{FILE}-0.png" for label in "ab")
    below = [f"{label}/{FILE}-{end}.png" for label in "ab" for end in ("0", "1", "2", "3", "bad")]
    found = given_images([root / "train", one, other])
    assert found.names == [*below, f"{FILE}-0.png", f"{FILE}-0.png (2)"]
    assert given_images([root / "train", one], anonymous=True).names == [f"image {n}" for n in range(1, 12)]
    assert folder_images(root / "train").names == below
    sample = folder_images(root / "train", limit=3, seed=1)
    numbers = [f"image {1 + below.index(name)}" for name in sample.names]
    assert folder_images(root / "train", limit=3, seed=1, anonymous=True).names == numbers
    reading = ReadAhead(found, Run(on_error="skip"))
    assert len(list(reading)) == 10
    assert list(reading.skipped) == [f"a/{FILE}-bad.png", f"b/{FILE}-bad.png"]
    assert all(reason.startswith(f"{name} is not an image") for name, reason in reading.skipped.items())


def test_a_page_of_a_comparison_names_nobody(run, root, neurons, tmp_path):
    given = (root / "test" / "a" / f"{FILE}-0.png", root / "test" / "b" / f"{FILE}-bad.png")
    out = tmp_path / "out"
    common = ("compare", *PHANTOM, "--neurons", neurons / "phantom.json", "--out", out, "--anonymous")
    assert run(*common, *given)[0] == 0
    assert [each["image"] for each in json.loads((out / "compare.json").read_text())] == ["image 1"]
    assert list(json.loads((out / "manifest.json").read_text())["skipped"]) == ["image 2"]
    assert where((*own(root, tmp_path), FILE), out) == []


def test_a_refusal_calls_a_bad_image_by_its_number(run, root, neurons, tmp_path):
    refused = [*words("detect", root, neurons, tmp_path), "--anonymous", "--on-error", "raise", "--debug"]
    status, said, error = run(*refused)
    assert status == 2
    assert "image 5 is not an image that can be read" in error
    assert "JANE" not in said + error  # nor in the traceback


@pytest.mark.slow
def test_a_study_says_what_is_missing_without_a_path(run, root, neurons, tmp_path):
    for anonymous in ((), ("--anonymous",)):
        status, _, error = run(*words("medical", root, neurons, tmp_path), *anonymous)
        assert status == 2  # no set of the study lies there
        assert str(root.parent) not in error
        assert not anonymous or FOLDER not in error


@pytest.mark.slow
def test_a_report_of_named_ablations_can_leave_names_out(run, root, neurons, tmp_path):
    first, second = tmp_path / f"{FOLDER} one", tmp_path / f"{FOLDER} two"
    for folder in (first, second):
        given = [
            folder if each == tmp_path / "result" else each
            for each in words("ablate", root, neurons, tmp_path)
        ]
        assert run(*given)[0] == 0
    for anonymous in ((), ("--anonymous",)):
        page = tmp_path / "page.html"
        assert run("report", first, second, "--out", page, *anonymous)[0] == 0
        assert bool(where((FILE,), page)) != bool(anonymous)
        assert bool(where((FOLDER,), page)) != bool(anonymous)
