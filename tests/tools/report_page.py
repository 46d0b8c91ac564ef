"""The one design of the reports, held to its rules: answer, figure, tables, nothing from elsewhere, paper."""

from __future__ import annotations

import base64
import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

#: Elements that hold no others.
VOID = {"meta", "link", "img", "input", "br"}


class ReportPage(HTMLParser):
    """What stands on a report, in order.

    Attributes:
        tags: (tag, attributes, names of the elements around it).
        texts: {place among the tags: the text that follows it}.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.whole = text
        self.tags: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.texts: dict[int, str] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs), tuple(self._open)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in self._open, f"</{tag}> closes nothing"
        while self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        place = len(self.tags) - 1
        self.texts[place] = self.texts.get(place, "") + data

    def places(self, tag: str, **attributes: str) -> list[int]:
        """Return where elements of a kind stand among the tags."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [
            place
            for place, (name, own, _) in enumerate(self.tags)
            if name == tag and all(own.get(key) == value for key, value in wanted.items())
        ]

    def said(self, place: int) -> str:
        """Return the text of an element without others in it."""
        return " ".join(self.texts.get(place, "").split())


def unpacked(text: str, name: str) -> Any:
    """Return what a report carries packed: ``charts``, ``pictures``, as JSON values."""
    packed = re.search(rf'id="{name}">([^<]*)<', text)
    assert packed is not None
    return json.loads(gzip.decompress(base64.b64decode(packed[1])))


def held_to_the_design(file: Path) -> ReportPage:
    """Return a report, once it has everything that every report has."""
    page = ReportPage(file.read_text(encoding="utf-8"))
    (title,), (answer,) = page.places("h1"), page.places("p", class_="answer")
    assert answer == title + 1, "the answer stands first"
    told = page.said(answer)
    assert re.fullmatch(r"[A-Z0-9“].{20,}[^.]\.", told), told
    main, nav = page.places("main")[0], page.places("nav")[0]
    figures = [*page.places("figure"), *page.places("div", class_="widget")]
    assert any(main < place < nav for place in figures), "then one figure"
    _tables(page)
    charts = unpacked(page.whole, "charts")
    named = {own["data-chart"] for _, own, _ in page.tags if "data-chart" in own}
    assert named == set(charts), "a place for each chart, and a chart for each place"
    assert all(own.get("aria-label") for _, own, _ in page.tags if "data-chart" in own)
    _from_elsewhere(page)
    style = page.texts[page.places("style")[0]]
    for rule in ("@media print", "prefers-color-scheme: dark", "max-width: 44rem", "break-inside: avoid"):
        assert rule in style
    assert "not a medical device" in page.whole.lower()
    return page


def _tables(page: ReportPage) -> None:
    """Hold every table to a caption, a scope in each heading, and a name for each number on a narrow page."""
    tables = page.places("table")
    assert tables
    captions = [page.said(place) for place in page.places("caption")]
    assert len(captions) == len(tables)
    assert all(captions)
    assert all(own.get("scope") for tag, own, _ in page.tags if tag == "th")
    assert all(own.get("data-label") for tag, own, _ in page.tags if tag == "td")


def _from_elsewhere(page: ReportPage) -> None:
    """Let a report ask for nothing: what it shows it carries, and what it links lies beside it."""
    asked = [
        own[key] for _, own, _ in page.tags for key in ("src", "href", "srcset", "action") if own.get(key)
    ]
    beside = re.compile(r"data:|#|[\w.-]+/index\.html$")
    assert all(beside.match(str(each)) for each in asked), asked
    assert not re.search(r"url\(|@import|https?://", page.whole)
    policy = next(own["content"] for _, own, _ in page.tags if own.get("http-equiv"))
    assert str(policy).startswith("default-src 'none'; img-src data:")
