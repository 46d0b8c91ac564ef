"""The page: one self-contained HTML file that opens from disk, offline, and asks nothing of the network."""

from __future__ import annotations

from functools import cache
from typing import Any

from ttr.drawing.maps import colour_stops
from ttr.drawing.regions import ticks


def fill(template: str, **values: Any) -> str:
    """Return a page of ``ttr/templates`` with its values, which are escaped."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Any:
    """Return the templates, each compiled once a process."""
    from jinja2 import Environment, PackageLoader

    return Environment(loader=PackageLoader("ttr"), autoescape=True, trim_blocks=True, lstrip_blocks=True)


def bar(colour_map: str, high: float, low: float = 0.0) -> dict[str, Any]:
    """Return a colour bar from ``low`` to ``high`` for a page: its colours, and five numbers along it."""
    return {
        "stops": colour_stops(colour_map),
        "ticks": [written for _, written in ticks(low, high)],
    }
