"""What is a result and what is somebody's own, whatever a manifest says; and what a manifest must say."""

from __future__ import annotations

import os
import shutil

import pytest

from ttr.errors import DataError, OutputError
from ttr.files import MANIFEST, write_json
from ttr.studies.schemas import (
    ABLATION,
    BENCHMARK,
    COMPARISON,
    HOLDS,
    INTEGRATION,
    MEDICAL,
    TUNING,
    is_result,
    read_manifest,
    result_folder,
)

MADE = {"ttr": "0.1.0", "backbone": {"name": "phantom", "weights": "random"}}


def write(folder, kind, names, **more):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if not (folder / name).exists():
            (folder / name).write_text("x")
    named = {} if kind is None else {"schema": kind}
    write_json(folder / MANIFEST, {**named, "files": list(names), "provenance": MADE, **more})
    return folder


@pytest.mark.parametrize("schema", HOLDS)
def test_every_kind_of_result_is_ours(schema, tmp_path):
    files = [pattern.replace("*", "plain-0-embedding-logistic-42") for pattern in HOLDS[schema].files]
    inner = HOLDS[schema].folders
    if inner is not None:
        write(tmp_path / "out" / "aptos-clip", inner, HOLDS[inner].files[:1])
        files.append("aptos-clip")
    assert is_result(write(tmp_path / "out", schema, files))
    with result_folder(tmp_path / "out") as folder:
        write_json(folder / MANIFEST, {"files": []})
    assert os.listdir(tmp_path / "out") == [MANIFEST]


@pytest.mark.parametrize("schema", [TUNING, COMPARISON])
def test_results_of_earlier_versions_are_ours_by_their_files(schema, tmp_path):
    """Their manifests did not say which kind they are of."""
    files = HOLDS[schema].files
    assert is_result(write(tmp_path / "out", None, files))
    assert not is_result(write(tmp_path / "less", None, files[:-1]))
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert not is_result(tmp_path / "out")


def listed_thesis(folder):
    write(folder, ABLATION, ["results.csv", "thesis.docx"])


def listed_photos(folder):
    (folder / "photos").mkdir(parents=True)
    (folder / "photos" / "1.jpg").write_text("mine")
    write(folder, ABLATION, ["results.csv", "photos"])


def photos_as_a_benchmark(folder):
    (folder / "photos").mkdir(parents=True)
    (folder / "photos" / "1.jpg").write_text("mine")
    write(folder / "photos", BENCHMARK, ["results.csv"])
    write(folder, MEDICAL, ["reproduction.csv", "photos"])


def not_listed(folder):
    write(folder, ABLATION, ["results.csv"])
    (folder / "attention.csv").write_text("mine")


def a_link(folder):
    write(folder, ABLATION, ["results.csv"])
    (folder / "results.csv").unlink()
    (folder / "results.csv").symlink_to(folder.parent / "results.csv")


def a_folder_of_that_name(folder):
    (folder / "results.csv").mkdir(parents=True)
    (folder / "results.csv" / "mine").touch()
    write(folder, ABLATION, ["results.csv"])


def a_linked_manifest(folder):
    write(folder, ABLATION, ["results.csv"])
    shutil.move(folder / MANIFEST, folder.parent / MANIFEST)
    (folder / MANIFEST).symlink_to(folder.parent / MANIFEST)


def a_manifest_that_is(text):
    def make(folder):
        write(folder, ABLATION, ["results.csv"])
        (folder / MANIFEST).write_text(text)

    return make


HOSTILE = {
    "a user's file is listed": listed_thesis,
    "a user's folder is listed": listed_photos,
    "a user's folder with a manifest": photos_as_a_benchmark,
    "a name of ours that is not listed": not_listed,
    "a link of our name": a_link,
    "a folder of our name": a_folder_of_that_name,
    "a linked manifest": a_linked_manifest,
    "paths": a_manifest_that_is('{"schema": "ttr.ablate/1", "files": ["../results.csv", "/results.csv"]}'),
    "a pattern": a_manifest_that_is('{"schema": "ttr.ablate/1", "files": ["*"]}'),
    "files is a text": a_manifest_that_is('{"schema": "ttr.ablate/1", "files": "results.csv"}'),
    "another schema": a_manifest_that_is('{"schema": "their/1", "files": ["results.csv"]}'),
    "no schema": a_manifest_that_is('{"files": ["results.csv"]}'),
    "a list as schema": a_manifest_that_is('{"schema": [], "files": ["results.csv"], "provenance": []}'),
    "nested": a_manifest_that_is("[" * 100_000),
    "a list": a_manifest_that_is("[]"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_a_users_own_is_never_removed(what, tmp_path):
    out = tmp_path / "out"
    HOSTILE[what](out)
    (tmp_path / "results.csv").write_text("mine")
    before = sorted(out.rglob("*"))
    with pytest.raises(OutputError, match="not a result of ttr"), result_folder(out):
        pass
    assert sorted(out.rglob("*")) == before
    assert (tmp_path / "results.csv").read_text() == "mine"


def test_half_a_report_in_a_result_does_not_make_it_somebodys_own(tmp_path):
    out = write(tmp_path / "out", ABLATION, ["results.csv"])
    (out / ".index.ttr-partial.html").write_text("half")
    with result_folder(out) as folder:
        (folder / MANIFEST).touch()
    assert os.listdir(out) == [MANIFEST]


GOOD = {"dataset": {"name": "phantom", "test": 12}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dataset": {"name": 5}}, r"\(dataset.name: Input should be a valid string\)"),
        ({"dataset": {"name": "x", "test": True}}, "dataset.test: Input should be a valid integer"),
        ({"dataset": {"skipped": {"a": 1}}}, "dataset.skipped.a"),
        ({"dataset": {"card": []}}, "dataset.card"),
        ({"dataset": []}, "does not say what made the result"),
        ({"provenance": {}}, "does not say what made the result"),
        ({"provenance": [MADE]}, "provenance: "),
        ({"provenance": {"backbone": {"weights": {}}}}, "provenance.backbone.weights"),
        ({"provenance": {"warning": 1.5}}, "provenance.warning"),
        ({"arm": {"num_registers": "2"}}, "arm.num_registers"),
        ({"files": {"a": 1}}, "files: "),
        ({"schema": {"ttr.ablate/1": 1}}, "holds {'ttr.ablate/1': 1}, not ttr.ablate/1"),
    ],
)
def test_a_manifest_that_is_none_is_one_sentence(change, says, tmp_path):
    write(tmp_path, ABLATION, [], **GOOD)
    assert read_manifest(tmp_path, ABLATION)["dataset"]["test"] == 12
    write(tmp_path, ABLATION, [], **{**GOOD, **change})
    with pytest.raises(DataError, match=says) as refused:
        read_manifest(tmp_path, ABLATION)
    assert "\n" not in str(refused.value)
    assert str(tmp_path) in str(refused.value)


def test_a_manifest_that_is_no_json_says_why(tmp_path):
    write(tmp_path, INTEGRATION, [], **GOOD)
    with pytest.raises(DataError, match=r"provenance: Input should be a valid list"):
        read_manifest(tmp_path, INTEGRATION)
    for text, says in (
        ("[" * 100_000, "nested too deeply"),
        ('{"schema": "a", "schema": "b"}', "'schema' stands in it twice"),
        ('{"n": NaN}', "NaN is no number of JSON"),
        (" " * (17 << 20), "it has 17 MiB, and at most 16 are read"),
    ):
        (tmp_path / MANIFEST).write_text(text)
        with pytest.raises(DataError, match=f"cannot be read as JSON .*{says}.*run ttr integrate again"):
            read_manifest(tmp_path, INTEGRATION)
