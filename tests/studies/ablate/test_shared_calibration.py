"""``torchrun -m ttr ablate``: the processes calibrate together, and the first goes on with it."""

from __future__ import annotations

import threading

import pytest
from typer.testing import CliRunner

import ttr
from ttr.cli.main import app
from ttr.datasets.phantom_set import phantom_set
from ttr.datasets.registry import sampled_images
from ttr.errors import OutputError
from ttr.features import prepared
from ttr.features.prepared import calibrated_tokens
from ttr.ranks import Rank
from ttr.registers.arms import PLAIN
from ttr.run import Run
from ttr.studies.ablate import write
from ttr.studies.ablate.settings import AblationSettings
from ttr.studies.ablate.write import share_calibration

SETTINGS = AblationSettings(calibration_images=40)


@pytest.fixture(scope="module")
def given():
    return (
        ttr.load("phantom-reg4", image_size=64),
        PLAIN,
        phantom_set(counts={"train": 40, "val": 6, "test": 6}),
    )


def test_the_first_process_waits_for_the_others_and_finds_the_calibration_in_the_cache(
    given, tmp_path, monkeypatch
):
    run = Run(batch_size=16, cache=tmp_path)
    share_calibration(*given, ["cls:zero"], SETTINGS, run, Rank(0, 2))  # which needs none
    assert not list(tmp_path.iterdir())
    other = threading.Thread(
        target=share_calibration, args=(*given, ["cls:mean"], SETTINGS, run, Rank(1, 2)), daemon=True
    )
    wait = prepared.Shared.wait

    def waited(self, patience):
        if patience:
            assert self.missing() == 1
            other.start()
        return wait(self, patience)

    monkeypatch.setattr(prepared.Shared, "wait", waited)
    share_calibration(*given, ["cls:mean"], SETTINGS, run, Rank(0, 2))
    other.join()
    monkeypatch.setattr(prepared, "calibrate", None)
    backbone, arm, dataset = given
    assert calibrated_tokens(backbone, arm, sampled_images(dataset, 40), run).value.images == 40


def test_it_waits_only_so_long(given, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "PATIENCE", 0.06)
    with pytest.raises(OutputError, match=r"1 of 2 parts of the calibration did not come .* 0.001 minutes"):
        share_calibration(*given, ["cls:mean"], SETTINGS, Run(batch_size=16, cache=tmp_path), Rank(0, 2))


def test_another_process_than_the_first_writes_no_result(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    words = [
        "--backbone",
        "phantom-reg4",
        "--image-size",
        "64",
        "--dataset",
        "phantom",
        "--conditions",
        "cls:mean",
    ]
    more = ["--calibration-images", "40", "--cache", tmp_path / "cache", "--out", tmp_path / "out", "--quiet"]
    done = CliRunner().invoke(app, ["ablate", *words, *map(str, more)])
    assert done.exit_code == 0, done.output
    assert "the first process goes on" in done.output
    assert not (tmp_path / "out").exists()
    assert len(list((tmp_path / "cache").rglob("part-001-of-002*"))) == 1
