"""What the marker test shows, as HTML: the maps with and without the marker, the verdict, and the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from ttr.apps.html.viewer import SIDES, Scale, View, peak, view
from ttr.apps.image.case import Case
from ttr.apps.image.marker import PUBLISHED, RULE, MarkerTest, Reaction
from ttr.apps.image.marker_places import Followed, Places
from ttr.drawing.html import fill
from ttr.drawing.maps import ATTENTION_MAP
from ttr.wording import DISCLAIMER, percent


@dataclass(frozen=True)
class MarkerRow:
    """One quantity, ready to print: four cells (before without and with, after without and with), or two."""

    label: str
    cells: tuple[str, ...]


def marked(case: Case, test: MarkerTest) -> Case:
    """Return the case of the picture with the marker."""
    picture = replace(
        case.picture, image=test.image, radiograph=None, slice=None
    )  # whose values have no marker
    return replace(case, picture=picture, inspection=test.marked, answer=None)


def maps(case: Case, test: MarkerTest) -> str:
    """Return the attention maps with and without the marker as HTML: four maps on one scale."""
    layer = test.marked.layers - 1
    shown = [
        ("with the marker", marked(case, test), test.marked),
        ("without it", replace(case, inspection=test.clean), test.clean),
    ]
    values = {name: [run.attention_map(layer) for run in found.runs] for name, _, found in shown}
    high = max(float(each.max()) for pair_ in values.values() for each in pair_ if each is not None)
    label = "share of the attention of CLS on one patch; one scale for all four maps"
    parts = []
    for name, behind, _ in shown:
        what = f"attention of CLS, block {layer}, mean of the heads, {name}"
        alts = [f"{what}: {peak(each)}" for each in values[name] if each is not None]
        title = f"Attention {name}, before and after"
        scale = Scale(ATTENTION_MAP, label, (0.0, high))
        shown_ = View(title, "attention", values[name], alts, scale, mark=test.box)
        html = view(behind, shown_, with_picture=behind.picture.image is not case.picture.image)
        parts.append(f"<h3>{name.capitalize()}</h3>{html}")
    return f'<div class="ttr-section">{"".join(parts)}</div>'


def verdict(test: MarkerTest) -> str:
    """Return the finding as HTML, for each model, with a warning where a reaction would be hard to see."""
    both = test.before, test.after
    sides = [(tag, name, _finding(each)) for (tag, name, _), each in zip(SIDES, both, strict=True)]
    occupied = [name.lower() for (_, name, _), each in zip(SIDES, both, strict=True) if each.occupied]
    return fill("app_verdict.html", test=test, sides=sides, occupied=" and ".join(occupied))


def numbers(case: Case, test: MarkerTest, answered_by: str) -> str:
    """Return the numbers and the rule as HTML; ``answered_by``: what the answer comes from, or ""."""
    both = test.before, test.after
    rows = [
        MarkerRow("attention share", _each(both, lambda r: (100 * r.clean, 100 * r.marked), "{:.1f} %")),
        MarkerRow("times its area", _each(both, lambda r: (r.clean / r.area, r.marked / r.area), "{:.2f}")),
        MarkerRow(
            "brightest there",
            _each(both, lambda r: ("yes" if peak_ else "no" for peak_ in (r.peak_clean, r.peak_marked))),
        ),
        MarkerRow("feature cosine", _each(both, lambda r: (r.cosine,), "{:.4f}")),
    ]
    replies = [each.reply for each in both if each.reply is not None]
    if replies:
        rows += [
            MarkerRow(
                "answer", _each(replies, lambda r: (f"{r.clean} → {r.marked}" if r.changed else r.clean,))
            ),
            MarkerRow("probability", _each(replies, lambda r: (percent(r.was), percent(r.now)))),
        ]
    return fill(
        "app_marker.html",
        case=case,
        test=test,
        rows=rows,
        rule=RULE,
        published=PUBLISHED,
        answered_by=answered_by,
        disclaimer=DISCLAIMER,
    )


def places(found: Places) -> str:
    """Return how often the markers are followed as HTML, with intervals and the test."""
    tallies = [("the map follows", found.maps)]
    if found.answers is not None:
        tallies.append(("the answer changes", found.answers))
    rows = [MarkerRow(label, (_tallied(tally.before), _tallied(tally.after))) for label, tally in tallies]
    followed = [
        (name, [str(m) for m, r in zip(found.markers, reactions, strict=True) if r.follows])
        for name, reactions in (("before", found.before), ("after", found.after))
    ]
    return fill("app_places.html", places=found, rows=rows, tallies=tallies, followed=followed)


def _finding(reaction: Reaction) -> str:
    said = ["the map goes to it"] if reaction.map_follows else []
    if reaction.reply is not None and reaction.reply.changed:
        said.append("the answer changes")
    return f"follows the marker: {' and '.join(said)}" if said else "does not follow the marker"


def _each(
    runs: Iterable[Any], values: Callable[[Any], Iterable[Any]], pattern: str = "{}"
) -> tuple[str, ...]:
    return tuple(pattern.format(value) for run in runs for value in values(run))


def _tallied(found: Followed) -> str:
    return f"{found.count} of {found.places} ({100 * found.low:.0f} % to {100 * found.high:.0f} %)"
