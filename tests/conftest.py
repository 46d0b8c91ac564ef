"""What all tests share: the order of the files, a hub on loopback, a browser, the command line."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # The workers, and what they start, share the cores: threads would only wait for each other.
    for pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(pool, "1")

import pytest
from hypothesis import settings

from tests.tools.app_page import CHROMIUM, PATIENCE, WITHOUT
from tests.tools.loopback_hub import LoopbackHub

# Laws are tried on the same examples each time: what fails, fails for everybody.
settings.register_profile("same examples", derandomize=True, deadline=None)
settings.load_profile("same examples")

# No test outlives the machine, and waiting for its disk takes milliseconds a file.
os.fsync = lambda handle: None

#: Files or folders that take longest, in this order.
LONGEST = (
    *("test_page_in_browser.py", "_in_browser.py"),  # a desk with results on it draws slowly
    *("studies/bench/", "studies/", "apps/", "cli/"),
)


def pytest_configure(config: pytest.Config) -> None:
    """Give the fixtures with models to whoever runs tests; the process that only hands them out waits not.

    It would import torch and timm for seconds before the first worker starts.
    """
    hands_out = config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput")
    if not hands_out or config.option.collectonly:
        gc.disable()  # nothing that is imported or collected goes
        config.pluginmanager.import_plugin("tests.tools.models_and_results")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Give each worker whole files, the longest first; all files that visit the page are one.

    They share a server and a browser, and whoever is last must not be alone with the longest.
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "tests/apps/ in a browser" if file.endswith("_in_browser.py") else file

    config.option.loadscopereorder = False  # by the number of tests; our order is that of the collection
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest."""
    items.sort(
        key=lambda item: next((i for i, name in enumerate(LONGEST) if name in item.nodeid), len(LONGEST))
    )


def pytest_collection_finish() -> None:
    """What was brought until now stays: the collector need not walk through it again and again."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _a_cache_of_this_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What an earlier run kept in the user's cache must not answer for this one; fonts alone may stay."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLCONFIGDIR", os.environ.get("MPLCONFIGDIR") or str(home / "matplotlib"))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("user-cache")))
        yield


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    """A hub on loopback with an empty cache of its own, to which this process's hub client is pointed."""
    from huggingface_hub import close_session, constants

    with LoopbackHub() as hub:
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "harnesses.json"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        close_session()
        yield hub
        close_session()


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """A headless Chromium; where there is none, its tests are skipped with the reason."""
    from playwright.sync_api import expect, sync_playwright

    if CHROMIUM is None:
        pytest.skip(WITHOUT)
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def run(monkeypatch, capsys, tmp_path_factory):
    """Run the command line in this process; return status, standard output and standard error.

    What a command keeps for the next one, it keeps in a folder of the test's own.
    """
    from ttr.cli import main

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("user-cache")))

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ttr", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call
