"""What a view of the page holds, read as the browser reads it."""

from __future__ import annotations

import base64
import io
import json
from html.parser import HTMLParser
from typing import Any

import numpy as np
from PIL import Image


def views(html: str) -> list[dict[str, Any]]:
    """Return the data of each ``<ttr-view>``; its maps are arrays, [rows, columns] or by head."""
    found = _elements(html, "ttr-view")
    for each in found:
        rows, columns = each["grid"]
        each["maps"] = _arrays(each.get("maps", []), rows, columns)
        for beside in each["beside"]:
            beside["maps"] = _arrays(beside["maps"], rows, columns)
        if each["heads"]:
            each["heads"]["maps"] = _arrays(each["heads"]["maps"], rows, columns)
    return found


def every_block(html: str) -> list[dict[str, Any]]:
    """Return the data of each ``<ttr-blocks>``; its maps are arrays, [rows * columns]."""
    found = _elements(html, "ttr-blocks")
    for each in found:
        for name, blocks in each["maps"].items():
            each["maps"][name] = [
                [None if side is None else np.frombuffer(base64.b64decode(side), "<f4") for side in block]
                for block in blocks
            ]
    return found


def pictures(html: str) -> list[dict[str, Any]]:
    """Return the data of each ``<ttr-picture>``."""
    return _elements(html, "ttr-picture")


def pixels(uri: str) -> np.ndarray:
    """Return the pixels of a PNG in a data URI."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def _arrays(maps: list[str | None], rows: int, columns: int) -> list[np.ndarray | None]:
    return [
        None
        if each is None
        else np.frombuffer(base64.b64decode(each), "<f4").reshape(-1, rows, columns).squeeze(0)
        if len(base64.b64decode(each)) == 4 * rows * columns
        else np.frombuffer(base64.b64decode(each), "<f4").reshape(-1, rows, columns)
        for each in maps
    ]


def _elements(html: str, tag: str) -> list[dict[str, Any]]:
    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
            if name == tag:
                found.append(json.loads(dict(attrs)["data-json"] or ""))

    Reader().feed(html)
    return found
