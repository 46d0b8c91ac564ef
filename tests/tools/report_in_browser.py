"""A report in a real browser: it asks for nothing and complains of nothing, whatever is done with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.tools.app_page import PATIENCE


@contextmanager
def opened(browser: Any, file: Path, width: int, scheme: str) -> Iterator[Any]:
    """Open a report and wait until its figures are drawn; it asks for nothing and complains of nothing."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.set_default_timeout(PATIENCE)
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(file.as_uri())
    page.wait_for_selector("body[data-ready]", state="attached")
    yield page
    assert [address for address in asked if not address.startswith(("data:", "file:", "blob:"))] == []
    assert complaints == []
    page.close()
