"""``ttr export`` as a user meets it."""

from __future__ import annotations

import json

import pytest
import torch

import ttr
from tests.tools.tiny_models import PATCH, SIZE, WIDTH, scramble, tiny_vit
from ttr.errors import OptionError
from ttr.studies.export import write
from ttr.studies.export.write import export


@pytest.fixture
def neurons_file(tmp_path):
    path = tmp_path / "neurons.json"
    ttr.RegisterNeurons.from_pairs(ttr.load("phantom").planted).save(path)
    return path


@pytest.fixture
def given(monkeypatch):
    """What the command hands over to be exported; a model of one block goes in its place, and quickly."""
    given = []

    def shallow(backbone, neurons, *arguments, **options):
        given.append((backbone.name, backbone.image_size, neurons.pairs))
        few = ttr.RegisterNeurons.from_pairs([(0, 1), (0, 5)])
        return export(ttr.adapt(scramble(tiny_vit(depth=1))), few, *arguments, **options)

    monkeypatch.setattr(write, "export", shallow)
    return given


def test_the_file_is_written_and_its_difference_is_said(run, given, neurons_file, tmp_path):
    out = tmp_path / "new" / "model.pt2"
    call = ("export", "--backbone", "phantom", "--neurons", neurons_file, "--format", "pt2", "--out", out)
    status, told, err = run(*call, "--num-registers", 2, "--image-size", 64)
    assert status == 0
    assert "exporting" in err
    assert given == [("phantom", (64, 64), list(ttr.load("phantom").planted))]
    assert f"B x {(SIZE // PATCH) ** 2} x {WIDTH}" in told
    assert "largest absolute difference to the model: " in told
    assert told.rstrip().endswith(f"open: {out}")
    extra = {"ttr.json": ""}
    embedding, _ = torch.export.load(out, extra_files=extra).module()(torch.zeros(3, 3, SIZE, SIZE))
    assert embedding.shape == (3, WIDTH)
    assert json.loads(extra["ttr.json"])["settings"]["num_registers"] == 2


def test_refusals_are_one_line_with_status_2(run, neurons_file, tmp_path):
    for arguments, message in (
        (("--out", tmp_path / "model.onnx"), "no preset for phantom; find them with: ttr detect"),
        (("--out", tmp_path / "model.pt", "--neurons", neurons_file), "needs a name ending in .onnx"),
        (("--out", neurons_file / "model.onnx", "--neurons", neurons_file), "cannot be written"),
    ):
        status, _, err = run("export", "--backbone", "phantom", *arguments)
        assert status == 2
        assert message in err
        assert err.count("\n") == 1
    status, _, err = run(
        "export", "--backbone", "phantom", "--format", "tflite", "--out", tmp_path / "m.tflite"
    )
    assert status == 2
    assert "'tflite' is not one of 'onnx', 'pt2'" in err
    assert [path.name for path in tmp_path.iterdir()] == ["neurons.json"]


def test_type_and_pooling_are_the_users_choice(run, neurons_file, tmp_path, monkeypatch):
    def write(backbone, neurons, out, **options):
        raise OptionError(f"got {backbone.dtype} and {options['pooling']}")

    out = tmp_path / "model.pt2"
    call = ("export", "--backbone", "phantom", "--neurons", neurons_file, "--image-size", 64)
    status, _, err = run(*call, "--dtype", "fp16", "--out", tmp_path / "model.onnx")
    assert status == 2
    assert "in float32 alone, but phantom is float16; load it in float32, or choose format pt2" in err
    status, _, err = run(*call, "--pooling", "mean", "--out", out, "--format", "pt2")
    assert status == 2
    assert "'mean' is not one of 'own', 'cls', 'patches'" in err
    monkeypatch.setattr("ttr.studies.export.write.export", write)
    status, _, err = run(*call, "--dtype", "bf16", "--pooling", "patches", "--out", out, "--format", "pt2")
    assert status == 2
    assert "got torch.bfloat16 and patches" in err
