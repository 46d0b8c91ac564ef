"""Phantoms are built here each time: how they are built is what is tested."""

from __future__ import annotations

import pytest

from tests.tools.models_and_results import BUILD
from ttr.backbones.phantoms import recipes


@pytest.fixture(autouse=True)
def _built_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "load", BUILD)
