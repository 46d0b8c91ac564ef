"""The page of a comparison, and the table of what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np

from ttr.analysis.faithfulness import LEVELS, Trust, grade, sentence
from ttr.drawing import maps
from ttr.drawing.html import bar
from ttr.drawing.report import report
from ttr.drawing.tables import Table, number, printed
from ttr.registers.neurons import RankedNeuron, RegisterNeurons
from ttr.studies.compare import pictures
from ttr.studies.compare.comparison import ImageComparison, highest
from ttr.studies.compare.view import View
from ttr.wording import SEVERAL_REGISTERS, counted

SHOWN = 24


@dataclass(frozen=True)
class QuantityRow:
    """One measured quantity, before and after, ready to print.

    Attributes:
        label: what it is.
        before: its value for the bare model, or a dash.
        after: its value for the wrapped model, or a dash.
        ratio: after / before, or a dash where one is missing, nothing or below it.
    """

    label: str
    before: str
    after: str
    ratio: str


QUANTITIES = (
    ("max_patch_norm", "largest patch norm, last block", "{:.1f}"),
    ("median_patch_norm", "median patch norm, last block", "{:.1f}"),
    ("outlier_patches", "outlier patches", "{:.3g}"),
    ("max_patch_attention", "largest CLS attention to a patch", "{:.4f}"),
    ("register_attention", "CLS attention held by registers", "{:.3f}"),
    ("register_norm", "largest register norm", "{:.1f}"),
    ("faithfulness", "faithfulness of the attention map", "{:.2f}"),
)
#: What the faithfulness is weighed with.
CHECKS = (
    ("trust.cosine", "plain cosine, its own patches with the feature", "{:.2f}"),
    ("trust.null", "plain cosine, other images’ patches (the null)", "{:.2f}"),
    ("trust.agreement", "share of the map’s light where patches give", "{:.2f}"),
    ("trust.deletion", "random draws that the brightest patches beat", "{:.2f}"),
)


def rows(
    before: Sequence[View],
    after: Sequence[View],
    quantities: Sequence[tuple[str, str, str]] = (*QUANTITIES, *CHECKS),
) -> list[QuantityRow]:
    """Return the table of measured quantities, each the mean over the given views."""
    table = []
    for name, label, pattern in quantities:
        low, high = (_mean(list(map(attrgetter(name), views))) for views in (before, after))
        # A cosine may be below nothing: what it is "times" another says nothing then.
        ratio = f"{high / low:.3f}" if low is not None and low > 0 and high is not None and high >= 0 else "–"
        table.append(QuantityRow(label, _show(low, pattern), _show(high, pattern), ratio))
    return table


def intervention(neurons: int, registers: int) -> str:
    """Return in words what was done to the model with so many neurons and test-time registers."""
    tokens = counted(registers, "test-time register")
    if neurons and registers:
        return f"{counted(neurons, 'register neuron')} moved to {tokens}"
    if neurons:
        return f"{counted(neurons, 'register neuron')} zeroed and no register appended"
    return f"no neuron edited and {tokens} appended" + (" (the blank-token control)" if registers else "")


def render(
    comparisons: Sequence[ImageComparison],
    neurons: RegisterNeurons,
    *,
    title: str,
    answer: str = "",
    figures: Sequence[Any] = (),
    truth: Sequence[tuple[int, int]] = (),
    left_out: int = 0,
    skipped: Mapping[str, str] | None = None,
) -> str:
    """Return the page as HTML.

    Args:
        comparisons: the images to show, at least one, with pixels; the page takes their provenance.
        neurons: the register neurons that were moved.
        title: heading of the page.
        answer: what was found, where the comparison is not all of it.
        figures: pictures ahead of the comparison, each with ``title``, ``uri`` and ``text``.
        truth: the planted neurons, on a phantom.
        left_out: images that are in the numbers' file but not on the page.
        skipped: {name: reason} of images that could not be read.
    """
    provenance = dict(comparisons[0].provenance)
    norm_scale, attention_scale = (highest(comparisons, name) for name in ("norms", "attention"))
    registers = provenance["settings"]["num_registers"]
    done = intervention(len(neurons), registers)
    summary = rows([c.before for c in comparisons], [c.after for c in comparisons])
    return report(
        "compare.html",
        answer=answer or in_short(comparisons, len(neurons)),
        made_with=provenance,
        charts={**pictures.layer_curves(comparisons), **pictures.distributions(comparisons)},
        title=title,
        figures=figures,
        made=provenance,
        intervention=done,
        several=SEVERAL_REGISTERS if registers > 1 else "",
        summary=_table(f"Mean over {counted(len(comparisons), 'image')} on this page", summary),
        cards=[_card(c, norm_scale, attention_scale) for c in comparisons],
        norm_bar=bar(maps.NORM_MAP, norm_scale),
        attention_bar=bar(maps.ATTENTION_MAP, attention_scale),
        neurons=neurons,
        ranking=_ranking(neurons, set(truth)),
        left_out=left_out,
        skipped=skipped or {},
        levels=LEVELS,
    )


def in_short(comparisons: Sequence[ImageComparison], neurons: int) -> str:
    """Return what was found in one sentence: the largest norm, the outliers, and whether the map is true.

    ``neurons``: how many were moved, or zeroed.
    """
    done = intervention(neurons, comparisons[0].provenance["settings"]["num_registers"])
    sides = [[getattr(c, side) for c in comparisons] for side in ("before", "after")]
    norm, outliers = (
        [_show(_mean([getattr(view, name) for view in views]), pattern) for views in sides]
        for name, pattern in (("max_patch_norm", "{:.1f}"), ("outlier_patches", "{:.3g}"))
    )
    before, after = (grade(Trust.mean(view.trust for view in views)) for views in sides)
    told = (
        f"with {done}, over {counted(len(comparisons), 'image')} the mean of the largest patch norm goes "
        f"from {norm[0]} to {norm[1]} and that of outlier patches from {outliers[0]} to {outliers[1]}"
    )
    ends = f"{before} before and after" if before == after else f"{before} before and {after} after"
    return f"{told}; the attention map is {ends}"


def _table(caption: str, found: Sequence[QuantityRow]) -> Table:
    cells = [(row.label, row.before, row.after, row.ratio) for row in found]
    return Table(caption, ("measured", "before", "after", "after / before"), [("", cells)])


def _ranking(neurons: RegisterNeurons, truth: set[tuple[int, int]]) -> Table:
    """Return the best of the ranking; without outliers no neuron was measured, and zeros have no order."""
    best = [row for row in map(RankedNeuron._make, neurons.ranked[:20]) if row.score != 0]
    kept = set(neurons.pairs)
    shown = [
        [
            *(str(place), str(row.layer), str(row.neuron), number(row.score, "{:.3f}")),
            *(
                "yes" if (row.layer, row.neuron) in known else "no"
                for known in ((kept, truth) if truth else (kept,))
            ),
        ]
        for place, row in enumerate(best, start=1)
    ]
    caption = f"The best {len(best)} of the ranking: mean |activation| at outlier patches"
    columns = ("rank", "block", "neuron", "score", "kept", *(["planted"] if truth else []))
    return Table(caption, columns, [("", shown)])


def _card(comparison: ImageComparison, norm_scale: float, attention_scale: float) -> dict[str, Any]:
    """Return the panels and numbers of one image."""
    pixels = comparison.pixels
    before, after = comparison.before.maps, comparison.after.maps
    own = float(after.attention.max())
    size = pixels.shape[:2]
    panels = [
        ("input", "what the model is given", pixels),
        (
            "norms before",
            "patch norms, bare model",
            maps.colourise(before.norms, norm_scale, maps.NORM_MAP, size),
        ),
        (
            "norms after",
            "patch norms, wrapped model",
            maps.colourise(after.norms, norm_scale, maps.NORM_MAP, size),
        ),
        (
            "attention before",
            "CLS attention, bare model",
            maps.overlay(pixels, before.attention, attention_scale),
        ),
        (
            "attention after",
            "CLS attention, wrapped model",
            maps.overlay(pixels, after.attention, attention_scale),
        ),
        (
            f"attention after, own scale 0–{own:.4f}",
            "the same map on a scale of its own, to see its shape",
            maps.overlay(pixels, after.attention, own),
        ),
    ]
    return {
        "name": comparison.image,
        "panels": [
            {
                "title": name,
                "alt": f"{comparison.image}: {text}",
                "uri": maps.png_uri(np.ascontiguousarray(image)),
            }
            for name, text, image in panels
        ],
        "table": _table(
            f"Outliers: patches above norm {comparison.outlier_threshold:.1f} at the output of block "
            f"{comparison.outlier_layer}",
            rows([comparison.before], [comparison.after]),
        ),
        "faithfulness": sentence(comparison.before.trust, comparison.after.trust),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _show(value: float | None, pattern: str) -> str:
    return "–" if value is None else printed(value, pattern)
