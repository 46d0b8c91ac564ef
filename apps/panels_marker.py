"""What the marker test shows, as HTML: the maps with and without the marker, the verdict, and the numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ttr import plots
from ttr.apps.marker import PUBLISHED, RULE, MarkerTest, Reaction
from ttr.apps.marker_places import Places, Tally
from ttr.apps.panels import SIDES, Look, pair, peak
from ttr.apps.study import DISCLAIMER, Study
from ttr.report import fill


@dataclass(frozen=True)
class Row:
    """One measured quantity, ready to print: for each model, without and with the marker."""

    label: str
    before: str
    after: str


def marked(study: Study, test: MarkerTest) -> Study:
    """Return the study of the picture with the marker."""
    picture = replace(study.picture, image=test.image)
    return replace(study, picture=picture, inspection=test.marked, answer=None)


def maps(study: Study, test: MarkerTest, *, smooth: bool) -> str:
    """Return the attention maps with and without the marker as HTML: four maps on one scale."""
    layer = test.marked.layers - 1
    shown = [
        ("with the marker", marked(study, test), test.marked),
        ("without it", replace(study, inspection=test.clean), test.clean),
    ]
    values = {name: [run.attention_map(layer) for run in found.runs] for name, _, found in shown}
    high = max(float(each.max()) for pair_ in values.values() for each in pair_ if each is not None)
    parts = []
    for name, behind, _ in shown:
        what = f"attention of CLS, block {layer}, mean of the heads, {name}"
        alts = [f"{what}: {peak(each)}" for each in values[name] if each is not None]
        html = pair(
            behind,
            f"Attention {name}, before and after",
            values[name],
            alts,
            plots.ATTENTION_MAP,
            "share of the attention of CLS on one patch; one scale for all four maps",
            Look(layer, smooth=smooth),
            "{:.3f}",
            bounds=(0.0, high),
            mark=test.box,
        )
        parts.append(f"<h3>{name.capitalize()}</h3>{html}")
    return f'<div class="ttr-section">{"".join(parts)}</div>'


def numbers(study: Study, test: MarkerTest, answered_by: str) -> str:
    """Return the verdict and the numbers as HTML; ``answered_by``: what the answer comes from, or ""."""
    before, after = test.before, test.after
    rows = [
        Row("attention on the marker’s squares", _share(before), _share(after)),
        Row("… times what their area would give", _density(before), _density(after)),
        Row("brightest square is the marker’s", _peaks(before), _peaks(after)),
        Row("likeness of the image’s features (cosine)", f"{before.cosine:.4f}", f"{after.cosine:.4f}"),
    ]
    if before.reply is not None and after.reply is not None:
        rows += [
            Row("answer", *(f"{r.clean} → {r.marked}" for r in (before.reply, after.reply))),
            Row(
                "probability of the first",
                *(f"{r.was:.1%} → {r.now:.1%}" for r in (before.reply, after.reply)),
            ),
        ]
    sides = [(tag, name, _finding(each)) for (tag, name, _), each in zip(SIDES, (before, after), strict=True)]
    occupied = [
        name.lower() for (_, name, _), each in zip(SIDES, (before, after), strict=True) if each.occupied
    ]
    return fill(
        "app_marker.html",
        study=study,
        test=test,
        sides=sides,
        occupied=" and ".join(occupied),
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
    rows = [Row(label, _tallied(tally, "before"), _tallied(tally, "after")) for label, tally in tallies]
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


def _share(reaction: Reaction) -> str:
    return f"{reaction.clean:.1%} → {reaction.marked:.1%}"


def _density(reaction: Reaction) -> str:
    return f"{reaction.clean / reaction.area:.2f} → {reaction.marked / reaction.area:.2f}"


def _peaks(reaction: Reaction) -> str:
    return " → ".join("yes" if found else "no" for found in (reaction.peak_clean, reaction.peak_marked))


def _tallied(tally: Tally, run: str) -> str:
    found = getattr(tally, run)
    return f"{found.count} of {found.places} ({found.low:.0%} to {found.high:.0%})"
