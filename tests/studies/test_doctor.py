"""The examination says yes on a sound installation, and names what is off on a broken one."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from huggingface_hub import constants

import ttr
from tests.tools.closure import declared
from ttr.backbones import real
from ttr.backbones.phantoms import hybrid
from ttr.backbones.phantoms import recipes as phantom
from ttr.registers.move import MoveNeurons
from ttr.studies import doctor
from ttr.studies.plant.truth import Truth


def states(checks) -> dict[str, str]:
    return {check.name: check.state for check in checks}


@pytest.fixture(scope="module", autouse=True)
def without_real_weights():
    """What a model of 22 million parameters shows is looked at once, by a test of its own."""
    found = real.found
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(real, "found", lambda: None)
        yield found


@pytest.fixture(scope="module")
def sound(without_real_weights):
    """What is found on this installation as it is."""
    return list(doctor.examine())


def in_a_process_of_its_own() -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-m", "ttr", "doctor"], capture_output=True, text=True)
    return done.returncode, done.stdout


@pytest.mark.parametrize("fresh", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_sound_installation_passes(run, sound, monkeypatch, fresh):
    monkeypatch.setattr(doctor, "examine", lambda: iter(sound))
    status, out = in_a_process_of_its_own() if fresh else run("doctor")[:2]
    assert status == 0, out
    assert "nothing is off in" in out
    for told in (
        "recall of the planted neurons",
        "max patch norm, wrapped / bare",
        "0.05 .. 0.2",
        "free disk",
    ):
        assert told in out
    table = [line for line in out.splitlines() if line[:1] in "┏┃┡│├└"]
    assert {len(line) for line in table} == {max(map(len, table))}
    assert len(table[0]) <= 80


def test_json_holds_every_check_with_its_range(run, sound, monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda: iter(sound))
    status, out, err = run("doctor", "--json")
    assert (status, err) == (0, "")
    result = json.loads(out)
    assert result["ok"]
    assert result["ttr"] == ttr.__version__
    checks = {check["name"]: check for check in result["checks"]}
    assert len(checks) == len(result["checks"]) > 20
    assert checks["torch"]["measured"] == torch.__version__
    assert checks["attention to the register"]["expected"] == "0.7 .. 0.95"
    assert 0.7 <= float(checks["attention to the register"]["measured"]) <= 0.95
    assert {check["group"] for check in checks.values()} == {
        "libraries",
        "devices",
        "hub cache",
        "phantom",
        "phantom-dinov2",
    }


def test_registers_that_take_nothing_over_are_named_with_status_1(run, monkeypatch):
    monkeypatch.setattr(MoveNeurons, "moved", lambda self, active: active)
    status, out, _ = run("doctor", "--quiet")
    assert status == 1
    for name in ("outlier patches, wrapped", "max patch norm, wrapped / bare", "attention to the register"):
        assert f"off: phantom, {name}: " in out
    assert "off: phantom, recall" not in out
    assert "off: libraries" not in out
    assert "checks are off" in out
    assert "trust no result of this installation" in out


def test_a_phantom_that_is_not_what_it_says_is_found_out(monkeypatch):
    from dataclasses import replace

    honest = phantom.load
    monkeypatch.setattr(
        "ttr.backbones.loading.phantom.load",
        lambda name, image_size=None: replace(
            honest(name, image_size=image_size), planted=((0, 0), (2, 687))
        ),
    )
    found = states(doctor.examine())
    assert found["recall of the planted neurons"] == "off"
    assert found["precision"] == "off"
    assert found["outlier patches, bare"] == "ok"


def test_a_batch_that_depends_on_its_neighbours_is_found_out(monkeypatch):
    faithful = MoveNeurons.moved
    monkeypatch.setattr(
        MoveNeurons, "moved", lambda self, active: faithful(self, active) * (1 + 0.1 * (len(active) > 1))
    )
    found = states(doctor.examine())
    assert found["batch against single images"] == "off"
    assert found["empty wrap against bare"] == "ok"


def test_a_library_that_does_not_import_is_a_finding_and_the_rest_goes_on(run, monkeypatch):
    real = importlib.import_module

    def broken(name, *arguments):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", broken)
    monkeypatch.setattr(doctor, "OPTIONAL", {"none": (("no_such_module",), "nothing")})
    status, out, _ = run("doctor", "--quiet")
    assert status == 1
    assert (
        "off: libraries, torchvision: RuntimeError: operator torchvision::nms does not exist; install" in out
    )
    assert "note: libraries, extra none: missing: no_such_module; needed for nothing alone" in out
    assert "off: phantom" not in out
    assert "1 of" in out


@pytest.mark.skipif(sys.version_info < (3, 11), reason="pyproject.toml is read by Python 3.11")
def test_the_extras_that_are_looked_for_can_be_installed():
    for extra, (modules, _) in doctor.OPTIONAL.items():
        assert extra in declared()
        assert modules
    assert doctor.OPTIONAL["dicom"][0] == ("gdcm", "pylibjpeg", "openjpeg", "highdicom")


def test_a_device_that_computes_wrongly_is_off(monkeypatch):
    real = doctor._wrapped_features
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(doctor, "_wrapped_features", lambda device: real("cpu") + (device == "cuda"))
    cuda = next(check for check in doctor._devices() if check.name == "cuda")
    assert (cuda.state, cuda.measured) == ("off", "differs by 1.0e+00")
    monkeypatch.setattr(doctor, "_wrapped_features", lambda device: real(device) + 0)
    if not torch.cuda.device_count():
        cuda = next(check for check in doctor._devices() if check.name == "cuda")
        assert cuda.state == "off"
        assert "Error" in cuda.measured


def test_a_cache_out_of_reach_and_a_full_disk_are_notes(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "weights").write_bytes(bytes(2 * 10**8))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    monkeypatch.setattr(doctor, "ROOM", 10**18)
    assert states(doctor._hub_cache()) == {"folder": "note", "free disk": "note"}
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    folder = next(iter(doctor._hub_cache()))
    assert folder.state == "ok"
    assert folder.measured == f"{tmp_path / 'cache'}, 0.2 GB"


@pytest.mark.parametrize(("value", "state"), [(0.2, "ok"), (0.21, "off"), (float("nan"), "off")])
def test_ranges_include_their_ends_and_no_nan(value, state):
    assert doctor._within("a", value, 0.1, 0.2).state == state


def test_a_required_library_that_is_missing_broken_or_too_old_is_a_fault(monkeypatch):
    from packaging.requirements import Requirement

    from ttr.studies import doctor

    wanted = [Requirement(line) for line in ("numpy>=1", "numpy>=99", "no-such-thing", "scikit-learn")]
    monkeypatch.setattr(doctor, "_requirements", lambda: wanted)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    found = next(check for check in doctor._libraries() if check.name == "the others")
    assert found.state == "off"
    faults = found.measured.split("; ")
    assert len(faults) == 3
    assert faults[0].startswith("numpy ")
    assert faults[0].endswith("needed >=99")
    assert faults[1:] == ["no-such-thing: PackageNotFoundError", "scikit-learn: ModuleNotFoundError"]


def test_a_torch_that_is_older_than_what_is_required_is_a_fault(monkeypatch):
    from packaging.requirements import Requirement

    from ttr.studies import doctor

    monkeypatch.setattr(doctor, "_requirements", lambda: [Requirement("torch>=99")])
    found = next(check for check in doctor._libraries() if check.name == "torch")
    assert found.state == "off"
    assert found.measured.endswith("needed >=99")


def test_what_is_required_is_what_the_installation_declares():
    from ttr.studies.doctor import _requirements

    names = {each.name for each in _requirements()}
    assert {"torch", "timm", "typer"} <= names
    assert not {"pytest", "onnx"} & names


def test_the_real_phantom_is_optional_and_says_what_to_install(sound):
    (check,) = [each for each in sound if each.group == "phantom-dinov2"]
    assert (check.name, check.measured, check.state) == ("weights", "not installed", "note")
    assert "pip install '.[real]' in ttr's checkout" in check.advice


def test_a_real_model_that_does_not_get_its_maps_back_is_off(without_real_weights, monkeypatch):
    """On what a sound one shows, and on a register that brings nothing back."""
    grid = np.ones((2, 2))
    row = Truth(grid, grid, grid, True, 3, 0.3, *(0.5, 0.995, 1.0), *(0.9, 0.985, 1.0))
    shown = [row, row]
    monkeypatch.setattr(hybrid, "without_weights", lambda name: "")
    monkeypatch.setattr(hybrid, "source_of", lambda name: None)
    monkeypatch.setattr(hybrid, "plant_named", lambda name, original: original)
    monkeypatch.setattr("ttr.backbones.load", lambda name, **given: None)
    monkeypatch.setattr("ttr.studies.plant.truth.show_truth", lambda *given: shown)
    checks = list(doctor._real_phantom())
    assert {check.state for check in checks} == {"ok"}
    assert {check.group for check in checks} == {"phantom-dinov2"}

    shown[:] = [replace(row, after_map=0.6, after_embedding=0.6)] * 2
    found = states(doctor._real_phantom())
    assert [name for name, state in found.items() if state == "off"] == [
        "map cosine, one register",
        "embedding cosine, one register",
    ]
    shown[:] = [replace(row, artifacts=0, triggered=False, planted_map=1.0)]
    found = states(doctor._real_phantom())
    assert found["images with artifacts"] == found["map cosine, planted"] == "off"


@pytest.mark.real
@pytest.mark.slow  # tests/backbones/phantoms holds the same by default
def test_a_real_model_gets_its_own_maps_back(without_real_weights, monkeypatch):
    monkeypatch.setattr(real, "found", without_real_weights)
    if hybrid.without_weights("phantom-dinov2"):
        pytest.skip(hybrid.without_weights("phantom-dinov2"))
    assert {check.state for check in doctor._real_phantom()} == {"ok"}
