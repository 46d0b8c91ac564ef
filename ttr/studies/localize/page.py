"""The page of a localisation: where maps lie beside a random map, and what each arm changes of it.

All scores are shares, in per cent; their differences are in points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from ttr.datasets.registry import Dataset
from ttr.drawing.report import report
from ttr.drawing.tables import NOTHING, Cell, Table, grouped, number, percent, points
from ttr.statistics.verdict import TOLD, family_said, said
from ttr.studies.localize.charts import cascade_chart, curve_charts, scores
from ttr.studies.localize.localisation import Localisation
from ttr.studies.localize.pictures import shown_arms
from ttr.studies.localize.settings import LocalisationSettings
from ttr.studies.localize.tables import BETWEEN
from ttr.wording import counted, measured, p_text

NAMES = {"auprc": "AUPRC", "iou_otsu": "IoU, Otsu’s cut", "iou_best_threshold": "IoU, best cut"}
#: Metrics side by side in a table; more go into a further one.
ABREAST = 6


def page(
    found: Localisation,
    tables: Mapping[str, pd.DataFrame],
    dataset: Dataset,
    settings: LocalisationSettings,
    made_with: dict[str, Any],
    *,
    answer: str,
    notes: Sequence[str],
    flagged: Sequence[str],
    cards: Mapping[str, Sequence[Mapping[str, Any]]],
) -> str:
    """Return the page as HTML: of tables as they are written, and of the images that are shown."""
    table = tables["localisation.csv"]
    charts: dict[str, Any] = {"scores": scores(table)}
    curves = curve_charts(found, settings.methods) if found.curves else {}
    if settings.sanity:
        charts["cascade"] = cascade_chart(tables["sanity.csv"])
    units = _units(found, dataset)
    return report(
        "localize.html",
        answer=answer,
        made_with=made_with,
        charts={**charts, **curves},
        made=made_with,
        dataset=dataset,
        notes=notes,
        flagged=flagged,
        images=len(found.items),
        units=units,
        share=float(found.shares.mean()),
        skipped=found.skipped,
        boxed="pointing_any" in set(table["metric"]),
        scores=_scores(table, len(found.items), "groups" if units else "images"),
        pairs=_pairs(tables, settings),
        method=settings.methods[0],
        cards=cards,
        curves=list(curves),
        arms=shown_arms(found),
        complexity=_complexity(tables["complexity.csv"]) if settings.sanity else None,
        discovery=_discovery(tables["discovery.csv"]) if settings.discovery else None,
    )


def _units(found: Localisation, dataset: Dataset) -> str:
    """Return of how many patients, or other groups, the images are; empty where the set names none."""
    return counted(len(set(found.groups)), dataset.groups.removesuffix("s")) if found.groups else ""


def _scores(table: pd.DataFrame, images: int, over: str) -> list[Table]:
    """Return every arm's metrics, grouped by method, so many abreast as fit."""
    metrics = list(dict.fromkeys(table["metric"]))
    rows = [
        {"arm": arm, "method": method, "metrics": {row.metric: row for row in part.itertuples()}}
        for method, own in table.groupby("method", sort=False)
        for arm, part in own.groupby("arm", sort=False)
    ]
    caption = (
        f"Means over {counted(images, 'test image')} in per cent, with 95 % intervals over {over}. By size "
        "of the outline: localisation_sizes.csv; by image: images.csv."
    )
    made = []
    for start in range(0, len(metrics), ABREAST):
        names = metrics[start : start + ABREAST]

        def cells(row: dict[str, Any], names: list[str] = names) -> list[Cell | str]:
            own = [row["metrics"][name] for name in names]
            return [row["arm"], *(percent(each.value, each.ci_low, each.ci_high) for each in own)]

        columns = ("arm", *(NAMES.get(name, name.replace("_", " ")) for name in names))
        made.append(Table(caption, columns, grouped(rows, lambda row: str(row["method"]), cells)))
        caption = "The other metrics"
    return made


def _pairs(tables: Mapping[str, pd.DataFrame], settings: LocalisationSettings) -> Table:
    """Return the differences between arms, grouped by method and metric."""
    compared = tables["localisation_pairs.csv"]
    rows = compared[compared.family.str.endswith(BETWEEN)].to_dict("records")
    if settings.discovery:
        rows += tables["discovery_pairs.csv"].to_dict("records")
    families = [
        family_said([row for row in rows if row["family"] == family], family)
        for family in dict.fromkeys(row["family"] for row in rows)
    ]
    return Table(
        "First minus second on the same images; draws averaged image by image. Differences from the "
        "random and the centred map: localisation_pairs.csv. p: paired permutation test (10,000), "
        f"Holm-corrected. {' '.join(f'{text[:1].upper()}{text[1:]}.' for text in families)} Equivalent: "
        "the corrected tests of equivalence (TOST) say that the difference is below "
        f"{measured(100 * settings.margin, 'point')}. Not distinguishable is no evidence of that; in "
        "brackets, the images that would tell. A dash: too few images differ for a test.",
        ("first − second", "difference, points", "verdict", "p"),
        grouped(
            rows,
            lambda row: f"{row['method']}: {str(row['metric']).replace('_', ' ')}",
            lambda row: [
                f"{row['first']} − {row['second']}",
                points(row["difference"], row["ci_low"], row["ci_high"]),
                Cell(said(row) or NOTHING, strong=row["verdict"] in TOLD),
                p_text(row["p_holm"]),
            ],
        ),
        words=("verdict",),
    )


def _complexity(table: pd.DataFrame) -> Table:
    def cells(row: Mapping[str, Any]) -> list[Cell | str]:
        return [points(row["rise"], row["ci_low"], row["ci_high"]), str(row["n"])]

    return _by_arm(table, "Rise of the entropy, with 95 % intervals", ("rise, %", "images"), cells)


def _discovery(table: pd.DataFrame) -> Table:
    def cells(row: Mapping[str, Any]) -> list[Cell | str]:
        found = percent(row["corloc"], row["ci_low"], row["ci_high"])
        return [found, number(row["positive"], "{:.0f}", scale=100)]

    return _by_arm(table, "With 95 % intervals", ("CorLoc, %", "alike, %"), cells)


def _by_arm(
    table: pd.DataFrame,
    caption: str,
    columns: tuple[str, ...],
    cells: Callable[[Mapping[str, Any]], list[Cell | str]],
) -> Table:
    """Return what each arm of a table came to, grouped by method."""
    rows = grouped(
        table.to_dict("records"),
        lambda row: str(row["method"]),
        lambda row: [str(row["arm"]), *cells(row)],
    )
    return Table(caption, ("arm", *columns), rows)
