"""A phantom that studies share, and ablations without their page, which takes longer than their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import ttr
from tests.tools.small_results import leave_the_page_out


@pytest.fixture(scope="module")
def backbone() -> ttr.Backbone:
    """The phantom at half its size: a quarter of the time for each of its images."""
    return ttr.load("phantom", image_size=112)


@pytest.fixture(scope="module")
def neurons(phantom: ttr.Backbone) -> ttr.RegisterNeurons:
    """Its planted neurons, at any size the same."""
    return ttr.RegisterNeurons.from_pairs(phantom.planted)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the tests of a module keep for each other."""
    return tmp_path_factory.mktemp("cache")


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
