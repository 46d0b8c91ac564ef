"""The page as its visitors meet it: the command in a process of its own, a browser that keeps a record."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WITHOUT = "no Chromium on this machine: apt-get install chromium fonts-dejavu-core"
#: Milliseconds that a busy machine may take for one step; only a step that never comes is waited for so long.
PATIENCE = 120_000
STILL = """() => document.getAnimations().every(
    (each) => each.playState !== "running" || each.effect.getComputedTiming().iterations === Infinity)"""


@dataclass
class Served:
    """A running page."""

    address: str
    process: subprocess.Popen[str]
    log: Path

    def resident(self) -> float:
        """Return the process's resident memory in MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def health(self) -> int:
        """Return the status of ``/healthz``."""
        try:
            with urllib.request.urlopen(self.address + "/healthz", timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code


@contextmanager
def serve_page(folder: Path, *options: str) -> Iterator[Served]:
    """Run ``ttr app`` on a phantom until the block is left; its temporary files and log lie in ``folder``."""
    log = folder / "log"
    model = () if "--backbone" in options else ("--backbone", "phantom")
    command = [sys.executable, "-u", "-m", "ttr", "app", "--no-browser", "--port", "0", *model, *options]
    environment = {**os.environ, "TMPDIR": str(folder), "NO_PROXY": "127.0.0.1"}
    with log.open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        served = Served(_address(process, log), process, log)
        _wait(lambda: served.health() == 200, "the page is not ready", log)
        yield served
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def _address(process: subprocess.Popen[str], log: Path) -> str:
    def found() -> re.Match[str] | None:
        assert process.poll() is None, log.read_text()
        return re.search(r"http://[\d.:]+", log.read_text())

    match = _wait(found, "the page says no address", log)
    return match.group()


def _wait(found: Any, otherwise: str, log: Path, seconds: float = 120) -> Any:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if value := found():
            return value
        time.sleep(0.05)
    raise AssertionError(f"{otherwise} after {seconds} s: {log.read_text()}")


@dataclass
class Record:
    """What a page asked for, and what the browser complained of."""

    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def watch(self, page: Any) -> None:
        """Keep the record of a page from now on."""
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("websocket", lambda socket: self.asked.append(socket.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on(
            "console",
            lambda message: message.type == "error" and self.complaints.append(message.text),
        )

    def elsewhere(self, home: str) -> list[str]:
        """Return what was asked of any other place than ``home``."""
        return [url for url in self.asked if not url.startswith((home, "data:", "blob:", "file:"))]


@contextmanager
def visits(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Yield what opens the page, ``(width, scheme)``, once its maps are there.

    At the end, whatever was done: nothing was asked of elsewhere, and the browser complained of nothing.
    """
    record, pages = Record(), []

    def opened(width: int = 1280, scheme: str = "light") -> Any:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.set_default_timeout(PATIENCE)
        record.watch(page)
        pages.append(page)
        page.goto(address)
        page.wait_for_selector("#maps .ttr-map")
        return page

    yield opened
    for page in pages:
        page.close()
    assert record.elsewhere(address) == []
    assert record.complaints == []


def select(page: Any, name: str) -> None:
    """Select a tab; one that has no room stands in a menu."""
    tab = page.get_by_role("tab", name=name, exact=True)
    if not tab.is_visible():
        page.get_by_label("More tabs").first.click()
        tab = page.get_by_role("button", name=name, exact=True)
    tab.click()


def screenshot(page: Any, name: str) -> None:
    """Write a picture of the page to the folder that TTR_SCREENSHOTS names; without one, take none."""
    if folder := os.environ.get("TTR_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def violations(page: Any) -> list[str]:
    """Return axe-core's serious and critical findings on a page, once nothing fades in any more."""
    page.wait_for_function(STILL)
    return serious_findings(page)


def serious_findings(page: Any) -> list[str]:
    """Return axe-core's serious and critical findings on a page as it is."""
    from axe_playwright_python.sync_playwright import Axe

    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    guidelines = {"runOnly": {"type": "tag", "values": tags}, "resultTypes": ["violations"]}
    guidelines["preload"] = False  # of style sheets, which no rule of these tags reads
    found = Axe().run(page, options=guidelines).response["violations"]
    return [
        f"{each['id']}: {node['target']} {node['failureSummary'][:300]}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]
