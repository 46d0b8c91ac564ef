"""The page: one self-contained HTML file that opens from disk, offline, and asks nothing of the network."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from ttr.drawing.maps import colour_stops
from ttr.drawing.regions import ticks
from ttr.drawing.tables import number
from ttr.wording import counted, listed, measured, p_said, sentence

if TYPE_CHECKING:
    from markupsafe import Markup


def fill(template: str, **values: Any) -> str:
    """Return a page of ``ttr/templates`` with its values, which are escaped."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Any:
    """Return the templates, each compiled once a process."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("ttr"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(counted=counted, measured=measured, p_said=p_said, sentence=sentence)
    environment.globals["listed"] = listed
    environment.globals.update(shown=lambda value, pattern: number(value, pattern).text)
    environment.filters["anchored"] = _anchored
    return environment


def _anchored(html: str) -> tuple[Markup, list[tuple[str, Markup]]]:
    """Return a page's body with an ``id`` for each heading of a section, and (id, heading) of each."""
    from markupsafe import Markup

    found: list[tuple[str, Markup]] = []

    def with_id(match: re.Match[str]) -> str:
        found.append((f"s{len(found)}", Markup(match[1])))
        return f'<h2 id="{found[-1][0]}">{match[1]}</h2>'

    return Markup(re.sub(r"<h2>(.*?)</h2>", with_id, html)), found


def bar(colour_map: str, high: float, low: float = 0.0) -> dict[str, Any]:
    """Return a colour bar from ``low`` to ``high`` for a page: its colours, and five numbers along it."""
    return {
        "stops": colour_stops(colour_map),
        "ticks": [written for _, written in ticks(low, high)],
    }
