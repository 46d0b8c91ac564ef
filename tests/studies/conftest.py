"""Ablations without their page, whose figures take longer than all numbers of a tiny model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tools.small_results import leave_the_page_out


@pytest.fixture(scope="module")
def tables_alone() -> Iterator[None]:
    """Leave the page out of every ablation of a module that reads tables alone."""
    with pytest.MonkeyPatch.context() as patch:
        leave_the_page_out(patch)
        yield


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the page out of the ablations of one test."""
    leave_the_page_out(monkeypatch)
