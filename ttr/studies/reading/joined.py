"""Answers and key put together: a row an answer, with what was shown and whether it was right.

This is the end of the blinding. Of a fully crossed study tables of readers by cases are taken from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from ttr.errors import DataError
from ttr.studies.reading.answers import Answer, moment
from ttr.studies.reading.design import PAIR
from ttr.studies.reading.folder import Study
from ttr.studies.reading.settings import AFTER, BEFORE, CONFIDENCE, NONE, TRUST
from ttr.studies.reading.sitting import PREFERENCES

#: What a preference comes to: for a map, against it, neither.
FOR, AGAINST = 1.0, -1.0
#: Milliseconds of a reading, and how often something happened, stay below: more than a century.
MOST = 4 * 10**12


def joined(study: Study, answers: Sequence[Answer]) -> pd.DataFrame:
    """Return a row an answer, with the columns of the answers and

    ``kind``, ``case``, ``image``, ``condition``, ``left``: of the trial (:mod:`ttr.studies.reading.design`);
    ``truth``, ``right``: 1, 0, NaN where nothing is known; ``score``: confidence in the first of two answers,
    -100..100; ``log_ms``; ``for_after``, ``for_left``: of a pair, 1, -1 or 0 for neither.

    Raises:
        DataError: an answer is to no trial of the study, or is none that could be given.
    """
    trials = {trial.trial: trial for trial in study.key.trials}
    rows = []
    for answer in answers:
        trial = trials.get(answer.trial)
        if trial is None or (trial.reader, trial.session, trial.position) != (
            answer.reader,
            answer.session,
            answer.position,
        ):
            raise DataError(
                f"the answer to trial {answer.trial[:40]!r} belongs to none of the study; give its own"
            )
        case = study.key.cases[trial.case]
        row = asdict(trial) | asdict(answer) | {"image": case.name, "truth": case.truth}
        _check(row, study)
        row |= _measured(row, study.settings.answers)
        rows.append(row)
    return pd.DataFrame(rows)


def crossed(table: pd.DataFrame, column: str, conditions: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Return a column of single reads by condition, reader and case, float [K, R, C], and the readers.

    Readers who lack one of the conditions altogether are left out, then cases that one of the others lacks.
    """
    reads = table[(table["kind"] == "read").to_numpy()]
    readers, places = np.unique(reads["reader"].to_numpy(str), return_inverse=True)
    cases, columns = np.unique(reads["case"].to_numpy(int), return_inverse=True)
    shown, values = reads["condition"].to_numpy(str), reads[column].to_numpy(float)
    found = np.full((len(conditions), len(readers), len(cases)), np.nan)
    for block, name in zip(found, conditions, strict=True):
        of_it = shown == name
        block[places[of_it], columns[of_it]] = values[of_it]
    known = ~np.isnan(found)
    kept = known.any(axis=2).all(axis=0)
    whole = known[:, kept].all(axis=(0, 1)) & kept.any()
    return found[:, kept][:, :, whole], readers[kept].tolist()


def of_kind(table: pd.DataFrame, kind: str, numbers: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return a number of each trial of a kind by reader and case, float [R, C], and the readers.

    Readers who have none are left out, then cases that one of the others lacks.

    Args:
        table: of :func:`joined`.
        kind: of its trials.
        numbers: one a row of the table.
    """
    marked = table.assign(number=numbers, kind=np.where(table["kind"] == kind, "read", ""), condition="")
    found, readers = crossed(marked, "number", [""])
    return found[0], readers


def _check(row: dict[str, object], study: Study) -> None:
    pair, mapped = row["kind"] == "pair", row["condition"] not in (NONE, PAIR)
    sound = row["preference"] in PREFERENCES if pair else row["answer"] in study.settings.answers
    sound = sound and (row["confidence"] is None if pair else row["confidence"] in CONFIDENCE)
    sound = sound and (row["trust"] in TRUST if mapped else row["trust"] is None)
    counts = [row[name] for name in ("ms", "paused_ms", "pauses", "displays")]
    moment(str(row["answered"]))
    if not sound or not all(isinstance(each, int) and 0 <= each < MOST for each in counts):
        raise DataError(f"the answer to trial {row['trial']} is none of the study's; put the file back")


def _measured(row: dict[str, object], answers: Sequence[str]) -> dict[str, float]:
    nan = float("nan")
    found = dict.fromkeys(("right", "score", "for_after", "for_left"), nan)
    found["log_ms"] = float(np.log(max(row["ms"], 1)))  # type: ignore[call-overload]
    if row["kind"] == "pair":
        left = {"A": FOR, "B": AGAINST}.get(str(row["preference"]), 0.0)
        found |= {"for_left": left, "for_after": left if row["left"] == AFTER else -left}
        return found
    if row["truth"]:
        found["right"] = float(row["answer"] == row["truth"])
    if len(answers) == 2:
        found["score"] = float(row["confidence"]) * (1 if row["answer"] == answers[0] else -1)  # type: ignore[arg-type]
    return found


def seen_first(table: pd.DataFrame) -> dict[tuple[str, int], str]:
    """Return which of the two maps a reader saw first of each case, {(reader, case): before or after}."""
    reads = table[(table["kind"] == "read") & table["condition"].isin([BEFORE, AFTER])]
    first = reads.sort_values("session").drop_duplicates(["reader", "case"])
    both = reads.groupby(["reader", "case"])["condition"].nunique()
    return {
        (row.reader, row.case): row.condition for row in first.itertuples() if both[row.reader, row.case] == 2
    }
