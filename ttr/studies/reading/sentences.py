"""What a reader study comes to, in sentences."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from ttr.drawing.tables import points
from ttr.statistics.verdict import EQUIVALENT, TOLD
from ttr.studies.reading.settings import AFTER, BEFORE, NONE
from ttr.wording import counted

#: How a condition is called, also where another is held against it, and what of a metric is said.
CALLED = {
    NONE: "without a map",
    BEFORE: "with the map before",
    AFTER: "with the map after",
    "perturbed": "with a wrong map",
}
AGAINST = {NONE: "no map", BEFORE: "the map before"}
SAID = {
    "accuracy": "right answers",
    "auc": "area under the ROC curve",
    "confidence": "confidence",
    "trust": "trust in the map",
}


def answer(conditions: pd.DataFrame, differences: pd.DataFrame, preferred: pd.DataFrame) -> str:
    """Return one sentence: the accuracies and what the map after changes, and which map is preferred.

    Where no truth is known, the trust in the maps stands for the accuracies.
    """
    known = set(conditions["metric"])
    metric = "accuracy" if "accuracy" in known else "trust" if "trust" in known else "confidence"
    rows = conditions[conditions["metric"] == metric]
    if not len(rows):
        return "No two images were read by anybody in the same condition, so that nothing can be compared."
    of = f"{counted(int(rows['readers'].max()), 'reader')}, {counted(int(rows['cases'].max()), 'image')}"
    levels = ", ".join(f"{100 * row.value:.1f} % {CALLED[row.condition]}" for row in rows.itertuples())
    said = f"{of}, {SAID[metric]}: {levels}"
    pairs = differences[(differences["family"] == metric) & (differences["first"] == AFTER)]
    told = [_outcome(row) for row in pairs.itertuples()]
    if told:
        said += f"; the map after changes this by {' and by '.join(told)}"
    if len(preferred) and preferred["reader"].iloc[0] == "all":
        said += f"; {_preferred(preferred.iloc[0])}"
    return f"{said}."


def findings(order: pd.DataFrame, readers: pd.DataFrame) -> list[str]:
    """Return what the order does, and who reads unlike the others: a sentence each verdict that tells."""
    told = [_biased("Readers", row) for row in _told(order)]
    # That a reader sees through wrong maps is no fault; who does not is named from the other side.
    rows = [row for row in _told(readers) if row["question"] != "trusts wrong maps less"]
    told += [_biased(str(row["reader"]), row) for row in rows]
    caught = readers[readers["question"] == "trusts wrong maps less"]
    misled = [str(row.reader) for row in caught.itertuples() if row.verdict != "higher"]
    if misled:
        told.append(f"Not shown to trust wrong maps less than the images' own: {', '.join(misled)}")
    return told


def _told(table: pd.DataFrame) -> list[dict[str, Any]]:
    return table[table["verdict"].isin(TOLD)].to_dict("records")


def _outcome(row: Any) -> str:
    found = points(row.difference, row.ci_low, row.ci_high)
    change = f"{found.text} points {found.around}".rstrip()
    verdict = row.verdict
    if verdict == EQUIVALENT:
        verdict = f"{EQUIVALENT} within {100 * row.margin:.4g} points"
    return f"{change} against {AGAINST[row.second]} ({verdict})"


def _preferred(row: Any) -> str:
    decided = int(row["after"] + row["before"])
    what = {"higher": "the map after is preferred", "lower": "the map before is preferred"}
    said = what.get(row["verdict"], f"the preference is {row['verdict']}")
    if row["verdict"] == EQUIVALENT:
        said = f"both maps are preferred equally often within {100 * row['margin']:.4g} points"
    return f"{said} (the map after in {row['after']} of {decided} decided pairs)"


def _biased(who: str, row: dict[str, Any]) -> str:
    difference, question = float(row["difference"]), str(row["question"])
    low, high = (points(row[end]).text for end in ("ci_low", "ci_high"))
    interval = f"95 % interval {low} to {high} points"
    if question.endswith("log_seconds"):
        change = "faster" if difference < 0 else "slower"
        much = f"{100 * abs(math.expm1(difference)):.0f} % {change}"
        return f"{who}: {much} at the end of a session than at its beginning"
    if question.startswith("drift"):
        what, change = SAID[question.removeprefix("drift of ")], "fewer" if difference < 0 else "more"
        if "trust" in question:
            change = "less" if difference < 0 else "more"
        return f"{who}: {change} {what} at the end of a session than at its beginning ({interval})"
    if question.startswith("prefers"):
        against = {"prefers left": "the right map", "prefers first seen": "the map that was seen second"}[
            question
        ]
        side = question.removeprefix("prefers ")
        thing = {"left": "the left map", "first seen": "the map that was seen first"}[side]
        return f"{who}: {thing if difference > 0 else against} preferred, whichever it is ({interval})"
    change = "more" if difference > 0 else "fewer"
    return f"{who}: {change} right answers than the others on the same images ({interval})"
