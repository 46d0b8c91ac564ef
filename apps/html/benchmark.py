"""A benchmark before and after, as HTML: every metric with its interval, every difference with its test.

Numbers are those of ``results.csv`` and ``comparisons.csv``. A published number stands in a column of its own
and is never computed with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ttr.apps.html import explanations
from ttr.apps.html.result_tables import NONE, Cell, TableRow, number, p_text, points, table, verdict
from ttr.drawing.html import fill
from ttr.errors import OptionError
from ttr.studies.reproduce.published import published_studies
from ttr.studies.results import Benchmarked
from ttr.wording import counted

if TYPE_CHECKING:
    pass

METRICS = {
    "top1": "accuracy (top 1), %",
    "top3": "right among the first 3, %",
    "f1_macro": "F1, mean of classes, %",
    "precision_macro": "precision, mean of classes, %",
    "recall_macro": "recall, mean of classes, %",
    "auc_ovr": "AUC, one against the rest",
    "balanced_accuracy": "balanced accuracy, %",
    "qwk": "quadratic weighted kappa",
    "ece": "calibration error (ECE; lower is better)",
    "brier": "Brier score (lower is better)",
}
#: Shares that people read in per cent; the rest are printed as they are.
SHARES = ("top1", "top3", "f1_macro", "precision_macro", "recall_macro", "balanced_accuracy")
STUDY = "medical"


@dataclass(frozen=True)
class Treatment:
    """An arm with its number of registers."""

    arm: str
    registers: int

    @property
    def kind(self) -> str:
        """The arm without its draw."""
        return self.arm.partition(":")[0]

    @property
    def label(self) -> str:
        """The treatment as the page names it."""
        return f"{self.arm}, R = {self.registers}" if self.registers else self.arm


@dataclass(frozen=True)
class View:
    """Which numbers are looked at: two treatments by their labels, a head, features and a seed."""

    before: str
    after: str
    head: str
    feature: str
    seed: int


def treatments(found: Benchmarked) -> dict[str, Treatment]:
    """Return the treatments by their labels, in the order of the file."""
    pairs = found.results[["arm", "num_registers"]].drop_duplicates().itertuples(index=False, name=None)
    return {each.label: each for each in (Treatment(arm, int(registers)) for arm, registers in pairs)}


def first_pair(found: Benchmarked) -> tuple[str, str]:
    """Return the labels of what to show first: the bare model and the moved registers where they are."""
    by_kind = {each.kind: label for label, each in reversed(treatments(found).items())}
    labels = list(treatments(found))
    return by_kind.get("plain", labels[0]), by_kind.get("ttr", labels[-1])


def about(found: Benchmarked) -> str:
    """Return what a benchmark is of, its warnings, and what its arms and heads are."""
    manifest, results = found.manifest, found.results
    made, data = manifest["provenance"], manifest["dataset"]
    card, images = data.get("card", {}), data.get("images", {})
    weights = made.get("backbone", {}).get("weights", "not said")
    split = ", ".join(f"{images[name]} {name}" for name in ("train", "val", "test") if name in images)
    parts = [
        f"{results['backbone'].iloc[0]}, weights: {weights}",
        f"{card.get('title', data.get('name', 'a set'))}: {split} images",
        counted(len(data.get("classes", ())), "class"),
    ]
    warnings = [f"A phantom. {made['warning']}"] if made.get("warning") else []
    if card.get("problems"):
        warnings.append(f"Known problems of this set: {card['problems']}.")
    if data.get("skipped"):
        warnings.append(f"{counted(len(data['skipped']), 'image')} left out because unreadable.")
    lead = [explanations.ARMS, explanations.HEADS]
    return fill("app_about.html", line=" · ".join(parts), warnings=warnings, lead=lead, note="")


def before_after(found: Benchmarked, view: View) -> str:
    """Return every metric of two treatments beside each other, and the differences that were tested.

    Raises:
        OptionError: there is no such treatment, head, feature or seed.
    """
    before, after = (_named(found, label) for label in (view.before, view.after))
    values = [_values(found, each, view) for each in (before, after)]
    published = _published(found, before, after)
    rows = []
    for metric in dict.fromkeys(found.results["metric"]):
        pair = [each.get(metric) for each in values]
        if all(row is None or row["value"] != row["value"] for row in pair):
            continue
        beside = [published.get(arm.kind, NONE) if metric == "top1" else NONE for arm in (before, after)]
        rows.append(
            [
                METRICS.get(metric, metric),
                *(_value(metric, row) for row in pair),
                *_difference(found, before, after, view, metric),
                *(beside if published else ()),
            ]
        )
    images = int(found.results["n"].iloc[0])
    caption = (
        f"Measured on {counted(images, 'test image')}, head {view.head}, seed {view.seed}, with 95 % "
        "intervals. Change: after minus before on the same images, averaged over all seeds and draws, in "
        "points; p: paired permutation test (10,000), Holm-corrected. A dash: not tested."
    )
    caption += _unsure(values)
    columns = ["metric", f"before: {before.label}", f"after: {after.label}", "change", "p (Holm)", "verdict"]
    if published:
        study = published_studies()[STUDY]
        columns += ["published before", "published after"]
        caption += f" Published, accuracy in per cent: {study.source}. {' '.join(study.notes)}"
    return table("Before and after", caption, columns, rows, fold=False)


def _unsure(values: list[dict[str, dict[str, Any]]]) -> str:
    """Return why a number has no interval, a sentence a metric."""
    why = {
        METRICS.get(metric, metric).partition(" (")[0]: row["reason"]
        for each in values
        for metric, row in each.items()
        if row["value"] == row["value"] and isinstance(row.get("reason"), str)
    }
    return "".join(f" No interval for {name}: {reason}." for name, reason in why.items())


def every_difference(found: Benchmarked, metric: str) -> str:
    """Return all differences of a metric with their tests."""
    if found.comparisons is None:
        return ""
    here = found.comparisons[found.comparisons["metric"] == metric]
    rows: list[TableRow] = [
        [
            f"{row['first']} − {row['second']}",
            f"{row['head']}" + ("" if row["feature"] == "embedding" else f", {row['feature']}"),
            str(int(row["num_registers"])),
            points(row["difference"], row["ci_low"], row["ci_high"]),
            p_text(row["p_holm"]),
            p_text(row["p_mcnemar_holm"]),
            Cell(NONE if (least := row["smallest_detectable"]) != least else f"{100 * least:.1f}"),
            verdict(row),
        ]
        for row in here.to_dict("records")
    ]
    caption = (
        f"{METRICS.get(metric, metric).removesuffix(', %')}: first minus second on the same images, in "
        "points, with 95 % intervals. Smallest: the difference that the corrected test shows with 80 % power."
    )
    columns = ("first − second", "head", "R", "change", "p (Holm)", "McNemar p", "smallest", "verdict")
    return table("The numbers", caption, columns, rows)


def every_arm(found: Benchmarked, metric: str) -> str:
    """Return one metric of every treatment, head, feature and seed, as ``results.csv`` has it."""
    here = found.results[found.results["metric"] == metric]
    rows = [
        [
            Treatment(row["arm"], int(row["num_registers"])).label,
            row["head"],
            row["feature"],
            str(int(row["seed"])),
            _value(metric, row),
        ]
        for row in here.to_dict("records")
    ]
    columns = ("arm", "head", "from", "seed", METRICS.get(metric, metric))
    return table("Every arm, head and seed", "With 95 % intervals over images.", columns, rows)


def _named(found: Benchmarked, label: str) -> Treatment:
    known = treatments(found)
    if label not in known:
        raise OptionError(f"no arm {label} in this result; needed one of {', '.join(known)}")
    return known[label]


def _values(found: Benchmarked, arm: Treatment, view: View) -> dict[str, dict[str, Any]]:
    table = found.results
    here = table[
        (table["arm"] == arm.arm)
        & (table["num_registers"] == arm.registers)
        & (table["head"] == view.head)
        & (table["feature"] == view.feature)
        & (table["seed"] == view.seed)
    ]
    if here.empty:
        raise OptionError(
            f"{arm.label} was not measured with head {view.head}, {view.feature}, seed {view.seed}; "
            "choose others"
        )
    return {row["metric"]: row for row in here.to_dict("records")}


def _value(metric: str, row: dict[str, Any] | None) -> Cell:
    if row is None:
        return Cell(NONE)
    scale, pattern = (100, "{:.1f}") if metric in SHARES else (1, "{:.3f}")
    return number(scale * row["value"], scale * row["ci_low"], scale * row["ci_high"], pattern)


def _difference(found: Benchmarked, before: Treatment, after: Treatment, view: View, metric: str) -> TableRow:
    """Return change, p and verdict of a metric where this pair was compared, whichever was first."""
    nothing: TableRow = [NONE] * 3
    pairs = found.comparisons
    if pairs is None or (before.registers and after.registers and before.registers != after.registers):
        return nothing
    place = (
        (pairs["head"] == view.head)
        & (pairs["feature"] == view.feature)
        & (pairs["metric"] == metric)
        & (pairs["num_registers"] == (after.registers or before.registers))
    )
    for first, second, sign in ((after, before, 1), (before, after, -1)):
        here = pairs[place & (pairs["first"] == first.kind) & (pairs["second"] == second.kind)]
        if len(here):
            row = here.iloc[0]
            ends = sorted((sign * row["ci_low"], sign * row["ci_high"]))
            name = row["verdict"]
            if sign < 0:
                name = {"higher": "lower", "lower": "higher"}.get(name, name)
            said = verdict({**row, "verdict": name})
            change = points(sign * row["difference"], *ends, strong=said.strong)
            return [change, p_text(row["p_holm"]), said]
    return nothing


def _published(found: Benchmarked, *arms: Treatment) -> dict[str, str]:
    """Return what was published of these arms, {kind: accuracy in per cent}; empty where nothing was."""
    study, row = published_studies()[STUDY], found.results.iloc[0]
    values = {
        arm.kind: study.value(backbone=row["backbone"], dataset=row["dataset"], arm=arm.kind) for arm in arms
    }
    return {kind: f"{100 * value:.2f}" for kind, value in values.items() if value is not None}
