"""The folder that sizing writes, and what it refuses before the long work."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace

import pytest
from PIL import Image

import ttr
from tests.tools.report_page import held_to_the_design
from ttr.cli import main
from ttr.datasets.registry import OpenedImages, phantom_images
from ttr.errors import ImageError, ModelError, NeuronsError, OutputError
from ttr.run import Run
from ttr.studies.schemas import is_result
from ttr.studies.tune.settings import TuningSettings
from ttr.studies.tune.tuning import (
    split,
    sweep_neurons,
)
from ttr.studies.tune.write import write_tuning


@pytest.fixture(scope="module")
def swept(phantom, phantom_batch, ranking):
    return sweep_neurons(phantom, ranking, phantom_batch[4:], top_k=[1, 8, 9, 10, 12], top_layers=[1, 2])


def files(folder):
    return OpenedImages(sorted(folder.iterdir()))


def run_in(folder):
    return Run(cache=folder / "cache", batch_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for p in phantom_images(6):
        p.image.save(folder / f"{p.name}.png")
    return folder


def test_the_command_writes_a_whole_folder_that_agrees_with_itself(folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    arguments = ["tune", "--backbone", "phantom", "--images", folder, "--out", out, "--top-k", "5,10"]
    arguments += ["--top-layer", "1..2", "--num-registers", "0,1,3", "--quiet"]
    monkeypatch.setattr(sys, "argv", ["ttr", *map(str, arguments)])
    with pytest.raises(SystemExit, match="0"):
        main()
    said = capsys.readouterr()
    assert "Neurons were found on 3 images and measured on 3 other images." in said.out
    assert said.out.rstrip().endswith(f"open: {out / 'index.html'}")
    assert said.err == ""
    result = json.loads((out / "tune.json").read_text())
    assert result["status"] == "too few images"
    assert (result["recommended"]["top_k"], result["recommended"]["top_layer"]) == (10, 2)
    assert not set(result["found_on"]) & set(result["measured_on"])
    assert set(ttr.RegisterNeurons.load(out / "neurons.json").pairs) == set(ttr.load("phantom").planted)
    with (out / "tune.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(result["rows"]) == 1 + 4 + 3
    for line, row in zip(table, result["rows"], strict=True):
        assert line == {key: "" if value is None else str(value) for key, value in row.items()}
    page = held_to_the_design(out / "index.html").whole
    assert "not the biology" in page
    assert page.count('class="plot"') == 4
    assert page.count("<span>yes</span>") == 1
    made = json.loads((out / "manifest.json").read_text())
    assert sorted(p.name for p in out.iterdir()) == sorted([*made["files"], "manifest.json"])
    assert made["provenance"]["settings"]["seed"] == 42
    assert is_result(out)


def test_no_outliers_is_an_answer(folder, tmp_path):
    backbone = ttr.load("phantom-reg4")
    tuning = write_tuning(backbone, files(folder), tmp_path / "out", run=run_in(tmp_path))
    assert tuning.advice.status == "no outliers"
    assert tuning.advice.row is None
    assert len(ttr.RegisterNeurons.load(tmp_path / "out" / "neurons.json")) == 0
    assert "No outlier patches in the bare model" in (tmp_path / "out" / "index.html").read_text()
    assert json.loads((tmp_path / "out" / "tune.json").read_text())["recommended"] is None


def test_given_neurons_are_measured_on_all_images_by_their_own_rule(phantom, ranking, folder, tmp_path):
    paths = sorted(folder.iterdir())
    given = replace(ranking, provenance=replace(ranking.provenance, threshold=100.0, outlier_layer=3))
    two, settings = OpenedImages(paths[:2]), TuningSettings(top_k=(10,), top_layers=(2,))
    tuning = write_tuning(phantom, two, tmp_path / "out", given, settings)
    assert "The ranking was given" in tuning.notes[0]
    assert "Fewer than 20 images" in tuning.notes[1]
    settings = json.loads((tmp_path / "out" / "manifest.json").read_text())["provenance"]["settings"]
    assert (settings["threshold"], settings["outlier_layer"]) == (100, 3)
    with pytest.raises(NeuronsError, match="found for backbone phantom"):
        write_tuning(ttr.load("phantom-clip"), files(folder), tmp_path / "no", given)
    assert not (tmp_path / "no").exists()


def test_too_few_images_to_part_and_rare_outliers_are_said(phantom, folder, tmp_path, monkeypatch):
    paths = sorted(folder.iterdir())
    settings = TuningSettings(top_k=(10,), num_registers=(1,))
    two, run = OpenedImages(paths[:2]), run_in(tmp_path)
    tuning = write_tuning(phantom, two, tmp_path / "out", settings=settings, run=run)
    assert "found and measured on the same" in tuning.notes[0]
    plain = tmp_path / "plain"
    plain.mkdir()

    _, measured_on = split(4, seed=42)
    for index in range(4):
        image = Image.open(paths[index]) if index in measured_on else Image.new("RGB", (224, 224), (200,) * 3)
        image.save(plain / f"{index}.png")
    with pytest.raises(ImageError, match="none of the 2 images to find neurons on has one"):
        write_tuning(phantom, files(plain), tmp_path / "rare", run=run)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(OutputError, match="not a result of ttr"):
        write_tuning(phantom, files(folder), tmp_path / "mine", run=run)


def test_a_block_that_does_not_exist_is_refused_before_detection(phantom, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "ttr.features.prepared.detect", lambda *_, **__: pytest.fail("the long work has begun")
    )
    with pytest.raises(ModelError, match=r"top_layer=99, but phantom has 6 blocks"):
        settings = TuningSettings(top_layers=(2, 99))
        absent = OpenedImages([tmp_path / f"{i}.png" for i in range(8)])
        write_tuning(phantom, absent, tmp_path / "out", settings=settings)
    assert not (tmp_path / "out").exists()
