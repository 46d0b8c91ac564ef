"""The medical study's sets, written once a module, and its tables without their page."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.medical_sets import write_medical_sets


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """OrthoNet, Pacemaker and APTOS, tiny."""
    return write_medical_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the tests of a module."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def no_medical_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the page out, whose figures take longer than all numbers of a tiny model."""
    monkeypatch.setattr("ttr.studies.reproduce.medical.medical_page", lambda *told: "")


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw a benchmark's intervals and tests from few resamples, which take longer than its heads."""
    for name in ("RESAMPLES", "PERMUTATIONS"):
        monkeypatch.setattr(f"ttr.studies.bench.statistics.{name}", 200)
