"""One server and one browser for every test of the page: each takes seconds to start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.app_page import Served, serve_page


@pytest.fixture(scope="session")
def results_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder that the page is opened with, empty at first."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="session")
def served(results_root: Path, browser: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page of the phantom; its private folder is there while it runs and goes when it is stopped."""
    folder = tmp_path_factory.mktemp("served")
    with serve_page(folder, "--results", str(results_root)) as served:
        assert len(list(folder.glob("ttr-app-*"))) == 1
        yield served
    assert list(folder.glob("ttr-app-*")) == []
