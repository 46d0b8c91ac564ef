"""What an ablation found, in plain sentences that are made of its numbers alone.

Zeroing first, since it is what most studies report; then the plausible replacements, which say how much of
that was the registers' content; then CLS and the control. What is equivalent within the margin is said to be
kept; where a difference is not distinguishable the sentence says so, and never that there is none. The words
are those of :mod:`ttr.statistics.verdict`.
"""

from __future__ import annotations

import pandas as pd

from ttr.statistics.verdict import EQUIVALENT, OPEN, TOLD, family_said, said, verdict
from ttr.studies.ablate.task_charts import metric_name, signed
from ttr.wording import counted, listed, measured

SETS = {"registers": "the trained registers", "test-time": "the test-time registers"}
DONATED = {"shuffle": "of another test image", "resample": "of a calibration image"}
PLAUSIBLE = ("mean", "noise", "shuffle", "resample")
METRICS = ("top1", "recall_at_1", "pck_0.1", "miou", "accuracy")


def sentences(results: pd.DataFrame, additivity: pd.DataFrame | None = None) -> list[str]:
    """Return the findings, a paragraph each.

    Args:
        results: columns of :func:`ttr.studies.ablate.tables.results`.
        additivity: columns of :func:`ttr.studies.ablate.tables.additivities`, where there is one.
    """
    found = []
    for tokens, name in SETS.items():
        found += [_zeroing(results, f"{tokens}:zero", f"Zeroing {name}")]
        found += [_plausible(results, tokens, name)]
        found += [_excess(additivity, tokens)]
        found += [_donors(results, f"{tokens}:{each}", name) for each in DONATED]
    for substitute, how in (("zero", "Zeroing CLS"), ("mean", "Replacing CLS by its mean over images")):
        found.append(_zeroing(results, f"cls:{substitute}", how))
    for condition in dict.fromkeys(results["condition"]):
        if condition.startswith("patches-"):
            count = condition.partition(":")[0].removeprefix("patches-")
            what = "1 random patch" if count == "1" else f"{count} random patches"
            found.append(_zeroing(results, condition, f"The control, zeroing {what} of each image,"))
    return [text for text in found if text]


def answer(results: pd.DataFrame) -> str:
    """Return in one sentence what zeroing costs and what plausible replacements leave of that cost.

    Args:
        results: columns of :func:`ttr.studies.ablate.tables.results`.
    """
    own = results[results["metric"].isin(METRICS)]
    task, metric = own.iloc[0][["task", "metric"]]
    rows = own[(own["task"] == task) & (own["metric"] == metric)]
    known = {row["condition"]: row for row in rows.to_dict("records")}
    name = metric_name(task, metric)
    told = []
    for tokens, called in (*SETS.items(), ("cls", "CLS")):
        zeroed = known.get(f"{tokens}:zero")
        if zeroed is not None:
            told.append(f"zeroing {called} {_moved(zeroed, name)}")
        kept = [known[f"{tokens}:{each}"] for each in PLAUSIBLE if f"{tokens}:{each}" in known]
        kept = [row for row in kept if row["delta"] == row["delta"]]
        if kept and tokens != "cls":
            moved = measured(float(f"{100 * max(abs(row['delta']) for row in kept):.1f}"), "point")
            told.append(f"plausible tokens in their place change it by at most {moved}, {_together(kept)}")
    if not told:
        full = known.get("full", next(iter(known.values())))
        level = f"{100 * full['value']:.1f} %"
        return f"no condition of this folder zeroes registers or CLS; {name} in full is {level}"
    return f"on {counted(int(rows.iloc[0]['n']), 'image')}, {'; '.join(told)}"


def _moved(row: dict, name: str) -> str:
    if row["delta"] != row["delta"]:
        return f"cannot be compared by {name}"
    before, after = 100 * (row["value"] - row["delta"]), 100 * row["value"]
    return f"changes {name} from {before:.1f} % to {after:.1f} % ({_by(row)})"


def _by(row: dict) -> str:
    return f"{signed(row['delta'])} points {_ends(row)}, {said(row, inside=True)}"


def _together(rows: list[dict]) -> str:
    """Return what several differences come to: one verdict where all have it, else how many have each."""
    found = [row["verdict"] for row in rows]
    if set(found) == {EQUIVALENT}:
        return said(rows[0])
    if len(set(found)) == 1:
        return found[0]
    return "; ".join(f"{found.count(each)} of {len(found)} {each}" for each in dict.fromkeys(found))


def families(results: pd.DataFrame) -> list[str]:
    """Return over which tests the p-values were corrected; empty for a table of an earlier version."""
    if "family" not in results or "tests" not in results:
        return []
    tested = results[results["verdict"] != ""]
    return [
        family_said(rows.to_dict("records"), "CLS" if name == "cls" else str(name))
        for name, rows in tested.groupby("family", sort=False)
    ]


def _zeroing(results: pd.DataFrame, condition: str, how: str) -> str:
    here = (results["condition"] == condition) & results["metric"].isin(METRICS)
    rows = results[here & results["delta"].notna()]
    if rows.empty:
        return ""
    found = rows.to_dict("records")
    changed = [_change(row) for row in found if row["verdict"] in TOLD]
    kept = {
        text: listed([metric_name(row["task"], row["metric"]) for row in found if said(row) == text])
        for text in dict.fromkeys(said(row) for row in found if row["verdict"] in (EQUIVALENT, OPEN))
    }
    if not changed:
        left = [f"{names} {text}" for text, names in kept.items()]
        return f"{how} leaves {listed(left)} in comparison with the full model." if left else ""
    return "; ".join([f"{how} changes {listed(changed)}", *(f"{n} {t}" for t, n in kept.items())]) + "."


def _plausible(results: pd.DataFrame, tokens: str, name: str) -> str:
    wanted = [f"{tokens}:{substitute}" for substitute in PLAUSIBLE]
    rows = results[results["condition"].isin(wanted) & results["delta"].notna()]
    if rows.empty:
        return ""
    means = [each for each in PLAUSIBLE if f"{tokens}:{each}" in set(rows["condition"])]
    count = rows["verdict"].value_counts()
    told, kept = sum(int(count.get(name, 0)) for name in TOLD), int(count.get(EQUIVALENT, 0))
    largest = rows.loc[rows["delta"].abs().idxmax()]
    where = f"{largest['condition']}, {metric_name(largest['task'], largest['metric'])}"
    text = (
        f"Replacing {name} plausibly instead ({listed(means)}) changes metrics by at most "
        f"{abs(100 * largest['delta']):.1f} points ({where}: {signed(largest['delta'])}, {_ends(largest)}); "
    )
    if kept:
        words = said(rows[rows["verdict"] == EQUIVALENT].iloc[0].to_dict())
        text += f"{kept} of the {len(rows)} differences {'is' if kept == 1 else 'are'} {words}, "
    if not told:
        return (
            text + f"none {'' if kept else f'of the {len(rows)} differences '}is distinguishable from zero."
        )
    of_all = "" if kept else f" of the {len(rows)} differences"
    return text + f"{told}{of_all} {'is' if told == 1 else 'are'} distinguishable from zero."


def _donors(results: pd.DataFrame, condition: str, name: str) -> str:
    """Say whose tokens stood in; results of earlier versions do not say it."""
    rows = results[results["condition"] == condition]
    if "donors_same_class" not in results or rows.empty or rows["donors_same_class"].isna().all():
        return ""
    row = rows.iloc[0]
    group = row["donors_same_group"]
    patient = "the set names no patients" if group != group else f"of the same patient in {100 * group:.1f} %"
    return (
        f"Where {name} were those {DONATED[condition.partition(':')[2]]} ({condition}), it was of the "
        f"image's own class in {100 * row['donors_same_class']:.1f} % of the draws (among all images of "
        f"others {100 * row['donors_by_chance']:.1f} %); {patient}."
    )


def _excess(additivity: pd.DataFrame | None, tokens: str) -> str:
    if additivity is None:
        return ""
    rows = additivity[(additivity["registers"] == tokens) & additivity["metric"].isin(METRICS)]
    if rows.empty:
        return ""
    task, metric = rows.iloc[0][["task", "metric"]]
    terms = rows[(rows["task"] == task) & (rows["metric"] == metric)].set_index("term")
    total, joint, excess = (terms.loc[term] for term in ("sum", "collective", "excess"))
    # Tables of earlier versions have no verdict; their p stands for no family.
    row = {"verdict": verdict(excess["ci_low"], excess["ci_high"], excess["p"]), **excess}
    more = "over the sum" if row["verdict"] in TOLD else f"over the sum, {said(row)}"
    return (
        f"Zeroed one at a time they change {metric_name(task, metric)} by {signed(total['value'])} points in "
        f"sum, all at once by {signed(joint['value'])}: {signed(excess['value'])} "
        f"[{signed(excess['ci_low'])}, {signed(excess['ci_high'])}] {more}."
    )


def _change(row: dict) -> str:
    before, after = 100 * (row["value"] - row["delta"]), 100 * row["value"]
    return (
        f"{metric_name(row['task'], row['metric'])} from {before:.1f} % to {after:.1f} % "
        f"({signed(row['delta'])} points, {_ends(row)})"
    )


def _ends(row: dict) -> str:
    low, high = row["delta_ci_low"], row["delta_ci_high"]
    return f"[{signed(low)}, {signed(high)}]" if low == low else "no interval"
