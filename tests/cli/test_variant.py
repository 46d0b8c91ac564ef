"""``--variant`` of every command that wraps a model: it reaches the wrap, and what is written says so."""

from __future__ import annotations

import json

import pytest
from typer.main import get_command

import ttr
from ttr.cli.ablate import _subject
from ttr.cli.bench import BenchmarkOptions
from ttr.cli.embed import KeptOptions, WrapOptions
from ttr.cli.integrate import IntegrationOptions
from ttr.cli.localize import LocalisationOptions
from ttr.cli.main import app
from ttr.cli.options import ModelOptions, Variant
from ttr.cli.tune import TuningOptions
from ttr.datasets.registry import phantom_images

WRAPPING = {
    *("compare", "pacs", "watch", "tune", "bench", "embed", "export", "integrate", "ablate", "zero-shot"),
    "localize",
}


@pytest.fixture
def wrapped(monkeypatch):
    """The variants of all wraps that are made."""
    seen, own = [], ttr.TestTimeRegisters.__init__

    def watched(self, *arguments, **options):
        own(self, *arguments, **options)
        seen.append(self.variant)

    monkeypatch.setattr(ttr.TestTimeRegisters, "__init__", watched)
    return seen


def test_every_command_that_takes_registers_for_a_wrap_takes_it():
    offered = {
        name: [option.opts[0] for option in command.params]
        for name, command in get_command(app).commands.items()
    }
    assert {name for name, options in offered.items() if "--variant" in options} == WRAPPING


@pytest.mark.parametrize(
    "options", [BenchmarkOptions, IntegrationOptions, LocalisationOptions, TuningOptions]
)
def test_settings_take_it_over(options):
    given = {"classes": 2} if options is BenchmarkOptions else {}
    assert options().settings(**given).variant == "algorithm"
    assert options(variant=Variant.released_code).settings(**given).variant == "released-code"
    assert KeptOptions().settings(WrapOptions(variant=Variant.released_code)).variant == "released-code"


def test_it_reaches_the_wrap_and_the_result(run, wrapped, tmp_path):
    drawn = next(phantom_images(1))
    drawn.image.save(tmp_path / "image.png")
    neurons = tmp_path / "neurons.json"
    ttr.RegisterNeurons.from_pairs(ttr.load("phantom").planted).save(neurons)
    shared = ("--backbone", "phantom", "--neurons", neurons, "--variant", "released-code")
    status, _, err = run("compare", *shared, "--out", tmp_path / "out", tmp_path / "image.png")
    assert status == 0, err
    assert set(wrapped) == {"released-code"}
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["provenance"]["settings"]["variant"] == "released-code"
    _, arm = _subject(ModelOptions(backbone="phantom"), neurons, 1, Variant.released_code)
    assert arm.to_json()["variant"] == "released-code"
    status, _, err = run("compare", *shared[:-1], "code", "--out", tmp_path / "out", tmp_path / "image.png")
    assert (status, "algorithm" in err and "released-code" in err) == (2, True)
