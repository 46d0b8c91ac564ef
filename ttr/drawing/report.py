"""The one design of every report: the answer in a sentence, one figure, then tables, in a file of its own.

The file carries its style, its script, its figures and plotly, opens from disk, and asks nothing of the
network. A study's template extends ``report.html`` and holds prose and order alone; tables come as
:class:`ttr.drawing.tables.Table`, figures as plotly's.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from ttr.drawing.html import fill
from ttr.wording import sentence

if TYPE_CHECKING:
    from markupsafe import Markup
    from plotly.graph_objects import Figure


class Fragment(NamedTuple):
    """A part of a report that several reports share: HTML with headings from ``h2`` on, and its charts."""

    html: Markup
    charts: dict[str, Any]


def report(
    template: str,
    *,
    answer: str,
    made_with: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    charts: Mapping[str, Any],
    pictures: Any = None,
    **values: Any,
) -> str:
    """Return a report as HTML.

    Args:
        template: of ``ttr/templates``, which extends ``report.html``.
        answer: what was found, in one sentence.
        made_with: provenances, each with ``warning`` and ``disclaimer``.
        charts: {name in the template: plotly figure, or what :func:`variants` returns}.
        pictures: what the page's script swaps, as JSON values.
        values: of the template.
    """
    each = [made_with] if isinstance(made_with, Mapping) else list(made_with)
    drawn = {name: _as_variants(chart) for name, chart in charts.items() if chart is not None}
    return fill(
        template,
        # A number and its per cent stay on one line.
        answer=sentence(answer).replace(" %", "\N{NO-BREAK SPACE}%"),
        made_with=[dict(made) for made in each],
        phantoms=list(dict.fromkeys(made["warning"] for made in each if made.get("warning"))),
        disclaimers=list(dict.fromkeys(made["disclaimer"] for made in each if made.get("disclaimer"))),
        versions=list(dict.fromkeys(str(made["ttr"]) for made in each if made.get("ttr"))),
        drawn=set(drawn),
        charts=packed(json.dumps(drawn)),
        pictures=packed(json.dumps(pictures or {})),
        plotly=_plotly() if drawn else "",
        **values,
    )


def fragment(template: str, charts: Mapping[str, Any], **values: Any) -> Fragment:
    """Return a part of a report, with the names of its charts as the template knows them."""
    from markupsafe import Markup

    kept = {name: chart for name, chart in charts.items() if chart is not None}
    return Fragment(Markup(fill(template, drawn=set(kept), **values)), kept)


def variants(figures: Iterable[tuple[str, Figure]]) -> dict[str, Any]:
    """Return figures as JSON values, {key: traces and the place of its layout}; equal layouts once."""
    layouts: list[Any] = []
    found = {}
    for key, figure in figures:
        drawn = json.loads(figure.to_json())
        if drawn["layout"] not in layouts:
            layouts.append(drawn["layout"])
        found[key] = {"data": drawn["data"], "layout": layouts.index(drawn["layout"])}
    return {"variants": found, "layouts": layouts}


def packed(text: str) -> str:
    """Return a text as a report carries it: gzip in base64, a third of its length."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _as_variants(chart: Any) -> Any:
    return chart if isinstance(chart, dict) else variants([("", chart)])


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return packed(get_plotlyjs())
