"""One server, a desk and a telephone for every test of the page: each takes seconds to start.

They go when the tests of the page are done: a page that nobody looks at still draws and asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tools.app_page import PICTURE, Served, clear, select, serve_page, visits


@pytest.fixture(scope="package")
def results_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder that the page is opened with, empty at first."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="package")
def served(results_root: Path, browser: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page of the phantom; its private folder is there while it runs and goes when it is stopped."""
    folder = tmp_path_factory.mktemp("served")
    with serve_page(folder, "--results", str(results_root)) as served:
        assert len(list(folder.glob("ttr-app-*"))) == 1
        yield served
    assert list(folder.glob("ttr-app-*")) == []


@pytest.fixture(scope="package")
def visit(served: Served, browser: object) -> Iterator[Callable[..., Any]]:
    """Open the page; whatever the tests do, nothing is asked of elsewhere and nothing is complained of."""
    with visits(browser, served.address) as opened:
        yield opened


@pytest.fixture(scope="package")
def desk(visit: Callable[..., Any]) -> Any:
    """One wide visit in the light, for all tests that need no new one."""
    page = visit()
    page.first_image = page.locator("#picture ttr-picture").get_attribute("data-json")
    return page


@pytest.fixture(scope="package")
def telephone(visit: Callable[..., Any]) -> Any:
    """One narrow visit in the dark, for all tests that need no new one."""
    return visit(390, "dark")


@pytest.fixture
def page(desk: Any) -> Any:
    """The desk with no file chosen, on the image with which it opened."""
    from playwright.sync_api import expect

    select(desk, "Compare")
    picture = desk.locator(PICTURE)
    desk.get_by_role("tab", name="Attention", exact=True).click()
    desk.locator("#view").get_by_role("radio", name="both").check()
    if clear(desk):
        expect(picture).to_have_count(0)
    if not picture.count() or picture.get_attribute("data-json") != desk.first_image:
        desk.get_by_role("button", name="Sample: chest").click()
    expect(picture).to_have_attribute("data-json", desk.first_image)
    desk.wait_for_selector("#maps ttr-view[data-ready]")
    return desk
