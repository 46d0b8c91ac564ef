"""The answer of a localisation in a sentence, and what must be said beside it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ttr.statistics.verdict import said
from ttr.studies.localize.localisation import BASELINES, NO_METHOD, Localisation
from ttr.wording import listed, measured

#: The metric that the answer tells of: it asks for the whole map, and chance is the outline's share.
TOLD_OF = "relevance_mass"
#: Of a share of fewer margins than this, an arm may take or add half and be within the margin.
WIDE = 2


def answer(table: pd.DataFrame, differences: pd.DataFrame) -> str:
    """Say how much of each method's map lies in the outlines, with the registers moved and without."""
    rows = table[table.metric == TOLD_OF]
    chance = 100 * float(rows["baseline"].iloc[0])
    own = rows[rows.method != NO_METHOD]
    value = {(row.arm, row.method): 100 * row.value for row in own.itertuples()}
    parts = []
    for method in dict.fromkeys(own.method):
        pair = _told(differences, method)
        if pair is None:
            each = [
                f"{100 * row.value:.1f} % with {row.arm}" for row in own[own.method == method].itertuples()
            ]
            parts.append(f"{listed(each)} by {method}")
            continue
        first, second = pair["first"], pair["second"]
        ends = f"{value[second, method]:.1f} % with {second} and {value[first, method]:.1f} % with {first}"
        parts.append(f"{ends} by {method}, {said(pair)}")
    told = "; ".join(parts)
    return f"in the outline lies so much of a map's energy: {told}; of a random map it is {chance:.1f} %"


def warnings_of(found: Localisation, margin: float) -> list[str]:
    """Say where the margin is as wide as what is measured, and which maps say nothing, a sentence each."""
    share = float(found.shares.mean())
    wide = (
        f"a random map has {100 * share:.1f} % of its energy in the outline, so equivalence within "
        f"{measured(100 * margin, 'point')} says little of it: choose a smaller "
        "--margin"
    )
    return ([wide] if share < WIDE * margin else []) + [
        f"{100 * share:.0f} % of the {method} maps of {arm} are one number all over, and score the outline's "
        "share"
        for (arm, method), share in found.flat.items()
    ]


def _told(differences: pd.DataFrame, method: str) -> dict[str, Any] | None:
    """Return the first difference between two arms by a method, or None."""
    names = [arm for arm, _ in BASELINES]
    rows = differences[
        (differences.method == method) & (differences.metric == TOLD_OF) & ~differences.second.isin(names)
    ]
    return None if rows.empty else rows.iloc[0].to_dict()
