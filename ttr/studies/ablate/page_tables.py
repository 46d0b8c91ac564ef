"""Tables of an ablation's page: what each condition costs, what becomes of the patches, two models."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ttr.drawing.tables import NOTHING, Cell, Table, grouped, of, percent, points
from ttr.statistics.verdict import TOLD, said
from ttr.studies.ablate.task_charts import metric_name
from ttr.wording import p_text

MEASURES = {
    "patch_cosine": "patch cosine to full",
    "effective_rank": "effective rank",
    "effective_rank_centred": "effective rank, patches centred",
    "effective_rank_singular": "effective rank, singular values",
}


def results_table(results: pd.DataFrame) -> Table:
    """Return every condition's metrics and their changes from full, grouped by metric.

    Args:
        results: columns of :func:`ttr.studies.ablate.tables.results`.
    """
    return Table(
        "Value and change from full, with 95 % intervals, in per cent and points.",
        ("condition", "value, %", "change, points", "verdict", "p (Holm)", "n"),
        grouped(
            results.to_dict("records"),
            lambda row: metric_name(row["task"], row["metric"]),
            lambda row: [
                str(row["condition"]),
                percent(row["value"], row["ci_low"], row["ci_high"]),
                _changed(row, points(row["delta"], row["delta_ci_low"], row["delta_ci_high"])),
                _verdict(row),
                p_text(row["p_holm"]),
                str(row["n"]),
            ],
        ),
        words=("verdict",),
        folded=True,
    )


def geometry_table(geometry: pd.DataFrame) -> Table:
    """Return what becomes of the patches under each condition, grouped by measure.

    Args:
        geometry: columns of :func:`ttr.studies.ablate.analysis_tables.geometry`.
    """
    return Table(
        "With 95 % intervals over images; p Holm-corrected over all conditions and measures of the same "
        "tokens. A very small change can be distinguishable.",
        ("condition", "value", "change from full", "verdict", "p (Holm)"),
        grouped(
            geometry.to_dict("records"),
            lambda row: MEASURES.get(row["measure"], str(row["measure"])),
            lambda row: [
                str(row["condition"]),
                of(row, "value", "{:.4f}", ("ci_low", "ci_high")),
                _changed(row, of(row, "delta", "{:+.4f}", ("delta_ci_low", "delta_ci_high"))),
                _verdict(row),
                p_text(row["p_holm"]),
            ],
        ),
        words=("verdict",),
        folded=True,
    )


def effects_table(effects: pd.DataFrame, names: tuple[str, str]) -> Table:
    """Return each condition's effect in two models, grouped by metric.

    Args:
        effects: columns of :func:`ttr.studies.ablate.between.effects`, of one pair of models.
        names: of the two.
    """
    return Table(
        "Change from full in points, with 95 % intervals. Difference: the first model’s change minus the "
        "second’s, image by image; p: paired permutation test (10,000), Holm-corrected over all rows that "
        "could fire. Higher: the first model’s change is higher, so it loses less.",
        ("condition", *names, "difference", "verdict", "p (Holm)", "n"),
        grouped(
            effects.to_dict("records"),
            lambda row: metric_name(row["task"], row["metric"]),
            lambda row: [
                str(row["condition"]),
                points(row["effect_a"], row["a_ci_low"], row["a_ci_high"]),
                points(row["effect_b"], row["b_ci_low"], row["b_ci_high"]),
                points(row["difference"], row["ci_low"], row["ci_high"]),
                _verdict(row),
                p_text(row["p_holm"]),
                str(row["n"]),
            ],
        ),
        words=("verdict",),
        folded=True,
    )


def _changed(row: dict[str, Any], cell: Cell) -> Cell:
    return Cell(NOTHING) if row["condition"] == "full" else cell


def _verdict(row: dict[str, Any]) -> Cell:
    return Cell(said(row) or NOTHING, strong=row["verdict"] in TOLD)
