"""Ablations without their page, whose figures take longer than all numbers of a tiny model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ttr.studies.ablate import write


@pytest.fixture(scope="module")
def tables_alone() -> Iterator[None]:
    """Leave the page out of every ablation of a module that reads tables alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "write_report", lambda folders, out: out.write_text("left out"))
        yield


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the page out of the ablations of one test."""
    monkeypatch.setattr(write, "write_report", lambda folders, out: out.write_text("left out"))
