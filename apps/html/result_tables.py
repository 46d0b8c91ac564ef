"""The numbers behind the figures of an ablation, as HTML tables: what a figure shows, for those who cannot
point at it, and to copy from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ttr.drawing.html import fill
from ttr.statistics.verdict import TOLD as TOLD_APART
from ttr.statistics.verdict import said
from ttr.studies.ablate.attention_charts import GROUPS, NAMES
from ttr.studies.ablate.folder import Folder
from ttr.studies.ablate.sentences import sentences
from ttr.studies.ablate.task_charts import metric_name, signed
from ttr.wording import counted, p_text

if TYPE_CHECKING:
    import pandas as pd

NONE = "–"
TOLD = (
    "In brackets: 95 % intervals over images. Differences are tested on the same images (paired "
    "permutations, 10,000) and corrected over all conditions and metrics of the same tokens (Holm). “Not "
    "distinguishable” is no proof that nothing changed; “equivalent” is one, within the margin that was "
    "stated."
)
MEASURES = {
    "patch_cosine": "patch cosine to full",
    "effective_rank": "effective rank",
    "effective_rank_centred": "effective rank, patches centred",
    "effective_rank_singular": "effective rank, singular values",
}


@dataclass(frozen=True)
class Cell:
    """A number of a table with its interval in quieter ink; strong: it is distinguishable."""

    text: str
    soft: str = ""
    strong: bool = False


#: A row of a table.
TableRow = list[str | Cell]


def table(
    label: str,
    caption: str,
    columns: Sequence[str],
    rows: Iterable[TableRow],
    *,
    fold: bool = True,
) -> str:
    """Return a table as HTML, folded away behind its ``label`` unless told otherwise."""
    kept = list(rows)
    summary = f"{label}: {counted(len(kept), 'row')}" if fold else ""
    return fill("app_table.html", label=label, caption=caption, columns=columns, rows=kept, summary=summary)


def number(value: float, low: float, high: float, pattern: str = "{:.1f}", *, strong: bool = False) -> Cell:
    """Return a number with its interval; a dash for NaN, no brackets where there is no interval."""
    if value != value:
        return Cell(NONE)
    ends = "" if low != low or high != high else f"[{pattern.format(low)}, {pattern.format(high)}]"
    return Cell(pattern.format(value), ends, strong)


def points(value: float, low: float, high: float, *, strong: bool = False) -> Cell:
    """Return a change of a share in points with its interval."""
    if value != value:
        return Cell(NONE)
    ends = "" if low != low or high != high else f"[{signed(low)}, {signed(high)}]"
    return Cell(signed(value), ends, strong)


def verdict(row: Mapping[str, Any]) -> Cell:
    """Return a row's verdict in words; bold where a difference is distinguishable."""
    return Cell(said(row) or NONE, strong=row["verdict"] in TOLD_APART)


def about(folder: Folder) -> str:
    """Return what an ablation is of, its warnings, and what it found in sentences."""
    made, data = folder.manifest["provenance"], folder.manifest["dataset"]
    results = folder.tables["results"]
    parts = [
        f"{folder.name}, weights: {made.get('backbone', {}).get('weights', 'not said')}",
        f"{data.get('name', 'a set')}: {counted(data.get('test') or 0, 'test image')}, "
        f"{counted(data.get('analysed') or 0, 'image')} looked into",
        counted(results["condition"].nunique(), "condition"),
    ]
    warnings = [f"A phantom. {made['warning']}"] if made.get("warning") else []
    if data.get("skipped"):
        warnings.append(f"{counted(len(data['skipped']), 'image')} left out because unreadable.")
    lead = sentences(results, folder.tables.get("additivity"))
    return fill("app_about.html", line=" · ".join(parts), warnings=warnings, lead=lead, note=TOLD)


def tasks(results: pd.DataFrame) -> str:
    """Return every condition and metric with value and change, as ``results.csv`` has them."""
    rows: list[TableRow] = [
        [
            row["condition"],
            metric_name(row["task"], row["metric"]),
            number(100 * row["value"], 100 * row["ci_low"], 100 * row["ci_high"]),
            points(row["delta"], row["delta_ci_low"], row["delta_ci_high"])
            if row["condition"] != "full"
            else NONE,
            p_text(row["p_holm"]),
            verdict(row),
            str(row["n"]),
        ]
        for row in results.to_dict("records")
    ]
    caption = "Value in per cent and change from full in points, with 95 % intervals."
    columns = ("condition", "metric", "value", "change", "p (Holm)", "verdict", "images")
    return table("The numbers", caption, columns, rows)


def flows(attention: pd.DataFrame, condition: str, block: int) -> str:
    """Return the shares of one block as a table, a row a source."""
    here = attention[(attention["condition"] == condition) & (attention["block"] == block)]
    cells = {(row["source"], row["target"]): row for row in here.to_dict("records")}
    targets = [*GROUPS, *dict.fromkeys(t for t in attention["target"] if t not in GROUPS)]
    rows: list[TableRow] = [
        [f"from {NAMES[source]}", *(_share(cells.get((source, target))) for target in targets)]
        for source in GROUPS
    ]
    caption = f"Share of the attention, {condition}, block {block}, with 95 % intervals over images."
    columns = ("", *(f"to {NAMES.get(target, target)}" for target in targets))
    return table("The numbers of this block", caption, columns, rows)


def _share(row: dict[str, Any] | None) -> Cell:
    return Cell(NONE) if row is None else number(row["share"], row["ci_low"], row["ci_high"], "{:.3f}")


def by_block(
    rows: pd.DataFrame, names: str, value: str, label: str, caption: str, *, scale: float = 1, pattern: str
) -> str:
    """Return a table of one value, a row a name of the column ``names``, a column a block."""
    blocks = sorted(set(rows["block"].tolist()))
    cells = {(row[names], row["block"]): row for row in rows.to_dict("records")}
    body: list[TableRow] = []
    for name in dict.fromkeys(rows[names]):
        found = [cells.get((name, block)) for block in blocks]
        body.append(
            [
                NAMES.get(str(name), str(name)),
                *(
                    Cell(NONE)
                    if row is None
                    else number(scale * row[value], scale * row["ci_low"], scale * row["ci_high"], pattern)
                    for row in found
                ),
            ]
        )
    return table(label, caption, ("", *(f"block {block}" for block in blocks)), body)


def additivity(sums: pd.DataFrame, place: tuple[str, str, str]) -> str:
    """Return what zeroing each register costs, their sum, all at once, and the excess."""
    registers, task, metric = place
    here = sums[(sums["registers"] == registers) & (sums["task"] == task) & (sums["metric"] == metric)]
    named = {"sum": "sum of single ones", "collective": "all at once", "excess": "all − sum"}
    rows: list[TableRow] = [
        [
            named.get(row["term"], row["term"].removesuffix(":zero")),
            points(row["value"], row["ci_low"], row["ci_high"]),
            p_text(row.get("p_holm", row["p"])),
            verdict({"verdict": "", **row}),
        ]
        for row in here.to_dict("records")
    ]
    caption = f"Change of {metric_name(task, metric)} from full, points, with 95 % intervals."
    return table("The numbers", caption, ("zeroed", "change", "p (Holm)", "verdict"), rows)


def geometry(found: pd.DataFrame) -> str:
    """Return what becomes of the patches under each condition."""
    rows: list[TableRow] = [
        [
            row["condition"],
            MEASURES.get(row["measure"], row["measure"]),
            number(row["value"], row["ci_low"], row["ci_high"], "{:.4f}"),
            number(row["delta"], row["delta_ci_low"], row["delta_ci_high"], "{:+.4f}")
            if row["condition"] != "full"
            else NONE,
            p_text(row["p_holm"]),
            verdict(row),
        ]
        for row in found.sort_values("measure", kind="stable").to_dict("records")
    ]
    caption = (
        "Cosine of each patch to itself in full, and effective rank: how many directions an image’s patches "
        "spread over. With 95 % intervals; a very small change can be distinguishable."
    )
    columns = ("condition", "measure", "value", "change from full", "p (Holm)", "verdict")
    return table("The numbers", caption, columns, rows)


def cosines(registers: pd.DataFrame) -> str:
    """Return the cosine between each two registers."""
    names = list(dict.fromkeys(registers["first"]))
    cells = {(row["first"], row["second"]): row for row in registers.to_dict("records")}
    rows: list[TableRow] = []
    for first in names:
        found = [cells.get((first, second)) for second in names]
        rows.append(
            [
                first,
                *(
                    Cell(NONE) if c is None else number(c["cosine"], c["ci_low"], c["ci_high"], "{:.3f}")
                    for c in found
                ),
            ]
        )
    return table("The numbers", "Mean cosine over images, with 95 % intervals.", ("", *names), rows)
