"""The page of a benchmark: what heads read with each arm, and which differences these images show.

Accuracies stand in per cent and their differences in points, in figures as in tables; a weighted kappa, which
is no share, stands as it is.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from ttr.drawing.report import report
from ttr.drawing.tables import NOTHING, Cell, Table, grouped, number, points
from ttr.registers.neurons import RegisterNeurons
from ttr.statistics.verdict import EQUIVALENT, OPEN, TOLD, family_said, said
from ttr.studies.bench.benchmark import Benchmark
from ttr.studies.bench.charts import differences
from ttr.studies.bench.pictures import confusions
from ttr.wording import SEVERAL_REGISTERS, counted, measured, p_text

#: Metrics of the page's table; all of them are in results.csv.
SHOWN = ("top1", "top3", "f1_macro", "auc_ovr", "balanced_accuracy", "qwk", "ece")
NAMES = {"f1_macro": "macro F1", "auc_ovr": "AUC", "qwk": "weighted kappa", "ece": "ECE"}
#: No share: it reaches from -1 to 1.
KAPPA = "qwk"
#: The pair that a benchmark answers for, where both took part.
ASKED = ("ttr", "plain")
PLACE = ["head", "feature", "arm", "num_registers"]


def page(
    found: Benchmark,
    neurons: RegisterNeurons,
    results: pd.DataFrame,
    comparisons: pd.DataFrame,
    made_with: dict[str, Any],
) -> str:
    """Return the page as HTML: of what was found, the tables as they are written, and the provenance."""
    top1 = comparisons[comparisons.metric == "top1"] if len(comparisons) else comparisons
    matrices = confusions(found)
    return report(
        "bench.html",
        answer=answer(results, comparisons, found.counts["test"]),
        made_with=made_with,
        charts={"forest": differences(top1) if len(top1) else None, **matrices},
        made=made_with,
        dataset=found.dataset,
        counts=found.counts,
        skipped=found.skipped,
        neurons=neurons,
        arms=_arms(results),
        differences=_differences(comparisons, found.counts["test"], made_with["settings"]["margin"]),
        matrices=list(matrices),
        several=SEVERAL_REGISTERS if int(results.num_registers.max()) > 1 else "",
    )


def answer(results: pd.DataFrame, comparisons: pd.DataFrame, images: int) -> str:
    """Return in one sentence what moving the registers does to heads trained anew, and to deployed ones.

    Args:
        results: columns of :func:`ttr.studies.bench.tables.results`.
        comparisons: columns of :func:`ttr.studies.bench.tables.comparisons`; empty with a single arm.
        images: test images.
    """
    start = f"on {counted(images, 'test image')}"
    if not len(comparisons):
        best = results[results.metric == "top1"].iloc[0]
        return f"{start}, {best.arm} has {100 * best.value:.1f} % right with the head {best['head']}"
    rows = comparisons[comparisons.metric == "top1"]
    asked = rows[(rows["first"] == ASKED[0]) & (rows["second"] == ASKED[1])]
    rows = asked if len(asked) else rows[rows["first"] == rows["first"].iloc[0]]
    deployed = rows["head"].str.endswith(":plain")
    told = [
        f"{_told(_one(part), results)} with heads {whose}"
        for part, whose in ((rows[~deployed], "of its own"), (rows[deployed], "of the bare model"))
        if len(part)
    ]
    return f"{start}, {'; '.join(told)}"


def _one(rows: pd.DataFrame) -> dict[str, Any]:
    """Return the row that speaks for some: a logistic head, which has no seed, and the fewest registers."""
    logistic = rows[rows["head"].str.startswith("logistic")]
    return (logistic if len(logistic) else rows).sort_values("num_registers", kind="stable").iloc[0].to_dict()


def _told(row: dict[str, Any], results: pd.DataFrame) -> str:
    """Return what became of the accuracy of one pair of arms."""
    first, second = row["first"], row["second"]
    own, other = (f"{100 * _accuracy(results, row, arm):.1f} %" for arm in (first, second))
    change = points(row["difference"], row["ci_low"], row["ci_high"])
    if row["verdict"] == EQUIVALENT:
        within = said(row).removeprefix(f"{EQUIVALENT} ")
        ends = f"{change.text} points {change.around}"
        return f"{first} keeps the accuracy of {second} {within} ({own} and {other}: {ends})"
    if row["verdict"] in TOLD:
        moved = measured(float(f"{100 * abs(row['difference']):.1f}"), "point")
        return f"{first} is {row['verdict']} than {second} by {moved} {change.around} ({own} and {other})"
    ends = f"{change.text} points {change.around}, {said(row, inside=True) or OPEN}"
    return f"{first} has {own} right and {second} {other} ({ends})"


def _accuracy(results: pd.DataFrame, row: dict[str, Any], arm: str) -> float:
    """Return the mean accuracy of an arm over its seeds and draws, at the place of a difference."""
    here = results[(results.metric == "top1") & (results["head"] == row["head"])]
    here = here[(here.feature == row["feature"]) & (here.arm.str.partition(":")[0] == arm)]
    same = here[here.num_registers == row["num_registers"]]
    return float((same if len(same) else here).value.mean())


def place_of(head: str, feature: str) -> str:
    """Return a heading for a head and what it reads; the model's own feature goes without saying."""
    return head if feature == "embedding" else f"{head}, from {feature}"


def _arms(results: pd.DataFrame) -> Table:
    """Return every arm with its metrics, of the first seed, grouped by head."""
    names = [name for name in SHOWN if results.loc[results.metric == name, "value"].notna().any()]
    rows = [
        {**dict(zip(PLACE, place, strict=True)), "metrics": part.set_index("metric")}
        for place, part in results[results.seed == results.seed.iloc[0]].groupby(PLACE, sort=False)
    ]
    several = len({row["num_registers"] for row in rows if row["num_registers"]}) > 1
    warnings = [f" {text}." for text in dict.fromkeys(results["warning"]) if text]
    return Table(
        f"Test set, seed {int(results.seed.iloc[0])}, with 95 % intervals over images (over groups where "
        "there are some): Wilson’s where right answers are counted, else from resamples within the "
        f"classes.{''.join(warnings)} All seeds and metrics: results.csv.",
        ("arm", *(_title(name) for name in names)),
        grouped(
            rows,
            lambda row: place_of(row["head"], row["feature"]),
            lambda row: [
                row["arm"] + (f", R = {row['num_registers']}" if several and row["num_registers"] else ""),
                *(_metric(name, row["metrics"].loc[name]) for name in names),
            ],
        ),
    )


def _title(metric: str) -> str:
    return NAMES.get(metric, metric.replace("_", " ")) + ("" if metric == KAPPA else ", %")


def _metric(name: str, row: Any) -> Cell:
    found = _scaled(name, row.value, "", row.ci_low, row.ci_high)
    return found._replace(why=row.reason) if found.text == NOTHING else found


def _scaled(metric: str, value: float, sign: str = "", low: Any = None, high: Any = None) -> Cell:
    """Return a metric, or a difference of one, in per cent or points; a kappa as it is."""
    if metric == KAPPA:
        return number(value, f"{{:{sign}.3f}}", low, high)
    return number(value, f"{{:{sign}.1f}}", low, high, 100)


def _differences(comparisons: pd.DataFrame, images: int, margin: float) -> Table:
    """Return every difference with what it comes to, grouped by head and metric."""
    rows = comparisons.to_dict("records")
    several = len({row["num_registers"] for row in rows if row["num_registers"]}) > 1
    families = [
        family_said([row for row in rows if row["family"] == family], family)
        for family in dict.fromkeys(row["family"] for row in rows)
    ]
    return Table(
        f"First minus second on the same {counted(images, 'test image')}; seeds and draws averaged image "
        "by image. p: paired permutation test (10,000), and McNemar’s exact test (first seed and draw), "
        f"each Holm-corrected. {' '.join(f'{text[:1].upper()}{text[1:]}.' for text in families)} "
        "Equivalent: the corrected tests of equivalence (TOST) say that the difference is below "
        f"{measured(100 * margin, 'point')}. Not distinguishable is no evidence of that; in brackets, the "
        "images that would tell. Smallest: the difference that the corrected test shows with 80 % power. "
        "A dash: not tested, or too few images differ for a test.",
        ("first − second", "difference, points", "verdict", "p", "McNemar p", "smallest, points"),
        grouped(
            rows,
            lambda row: f"{place_of(row['head'], row['feature'])}: {row['metric'].replace('_', ' ')}",
            lambda row: [
                f"{row['first']} − {row['second']}" + (f", R = {row['num_registers']}" if several else ""),
                _scaled(row["metric"], row["difference"], "+", row["ci_low"], row["ci_high"]),
                Cell(said(row) or NOTHING, strong=row["verdict"] in TOLD),
                p_text(row["p_holm"]),
                p_text(row["p_mcnemar_holm"]),
                _scaled(row["metric"], row["smallest_detectable"]),
            ],
        ),
        words=("verdict",),
    )
