"""The analysis of a reader study as a folder: tables, one page, one sentence. It unseals the study.

The folder holds ``trials.csv`` (every answer with what was shown), ``conditions.csv`` and ``differences.csv``
(:mod:`ttr.studies.reading.measures`), ``agreement.csv`` and ``preference.csv``
(:mod:`ttr.studies.reading.consent`), ``order.csv``, ``by_reader.csv`` and ``catch.csv``
(:mod:`ttr.studies.reading.order`), ``index.html`` and, written last, ``manifest.json``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from ttr.errors import OptionError
from ttr.files import MANIFEST, write_json, write_table, write_text
from ttr.statistics.verdict import check_margin
from ttr.studies.reading.answers import Answer, moment, opened, read_answers
from ttr.studies.reading.consent import agreement_table, preference_table
from ttr.studies.reading.folder import Study, read_study
from ttr.studies.reading.joined import joined
from ttr.studies.reading.measures import conditions_table, differences_table
from ttr.studies.reading.order import catch_table, order_table, reader_table
from ttr.studies.reading.page import render
from ttr.studies.reading.sentences import answer, findings
from ttr.studies.reading.simulated import biased, simulate
from ttr.studies.schemas import READERS, result_folder
from ttr.wording import counted

#: Of accuracy, area, confidence and trust: five points, as reader studies state it beforehand.
MARGIN = 0.05
TRIALS = "trials.csv"


@dataclass(frozen=True, eq=False)
class Analysed:
    """What a study comes to: {file name: table}, one sentence, and what must be said beside it."""

    tables: dict[str, pd.DataFrame]
    answer: str
    notes: list[str]


def write_analysis(
    folder: Path,
    out: Path,
    *,
    margin: float = MARGIN,
    seed: int = 42,
    incomplete: bool = False,
    simulated: Sequence[str] | None = None,
) -> Analysed:
    """Analyse a study, unseal it, and write the folder ``out``.

    Args:
        folder: of the study.
        out: folder to make; an earlier result is replaced.
        margin: of equivalence, as a share.
        seed: of resamples and permutations, and of simulated readers.
        incomplete: whether to analyse although readers have not finished, which ends the study.
        simulated: biases of readers who are simulated in place of the study's, which stays sealed.

    Raises:
        DataError: no sound study, or answers that are not its own.
        OptionError: readers have not finished, or there is no such bias.
        OutputError: ``out`` cannot be written, or the study is being read.
    """
    margin, study = check_margin(margin), read_study(folder)
    if out.resolve() == folder.resolve():
        raise OptionError(f"--out {out} is the study itself; give the analysis a folder of its own")
    if simulated is not None:
        reader = biased(simulated)
        found = simulate(study, [reader] * len(study.key.codes), seed)
        return _written(study, found, out, margin, seed, simulated)
    if not read_answers(folder):
        raise OptionError(f"nobody has answered in {folder} yet; let readers read with: ttr readers serve")
    with opened(folder) as book:
        if not incomplete:
            _check_complete(study, book.answers)
        return _written(study, book.answers, out, margin, seed, None)


def analyse(study: Study, answers: Sequence[Answer], *, margin: float = MARGIN, seed: int = 42) -> Analysed:
    """Return what answers to a study come to; arguments and errors as of :func:`write_analysis`."""
    table = joined(study, answers)
    asked, conditions = study.settings.answers, study.settings.conditions
    tables = {
        TRIALS: table,
        "conditions.csv": conditions_table(table, conditions, asked[0]),
        "differences.csv": differences_table(table, conditions, asked[0], margin),
        "agreement.csv": agreement_table(table, asked, conditions, seed=seed),
        "preference.csv": preference_table(table),
        "order.csv": order_table(table),
        "by_reader.csv": reader_table(table, conditions),
        "catch.csv": catch_table(table),
    }
    sentence = answer(*(tables[f"{name}.csv"] for name in ("conditions", "differences", "preference")))
    return Analysed(
        tables, sentence, findings(tables["order.csv"], tables["by_reader.csv"]) + remarks(study, table)
    )


def _check_complete(study: Study, answers: Sequence[Answer]) -> None:
    for reader in study.key.codes:
        done, of = sum(each.reader == reader for each in answers), len(study.of_reader(reader))
        if done < of:
            raise OptionError(
                f"{reader} has read {done} of {of}; wait until all are read, since the analysis ends the "
                "study, or add --incomplete"
            )


def remarks(study: Study, table: pd.DataFrame) -> list[str]:
    """Return what must be known of how a study was read; ``table``: of joined answers."""
    found = []
    if not study.with_truth:
        found.append("No truth was given: nothing is said of right and wrong")
    if short := _washout(table, study.settings.washout):
        found.append(short)
    again = int((table["displays"] > 1).sum())
    if again:
        found.append(f"{counted(again, 'image')} shown more than once, since the page was loaded anew")
    if table["reader"].nunique() == 1:
        found.append("One reader: intervals are over images alone, and say nothing of other readers")
    return found


def _washout(table: pd.DataFrame, days: int) -> str:
    """Return by how much the shortest time between two sessions was too short; empty: by nothing.

    Days are those of the calendar in UTC, as the page names the earliest.
    """
    times = pd.to_datetime([moment(each).date() for each in table["answered"]]).to_series(table.index)
    ends = times.groupby([table["reader"], table["session"]]).agg(["min", "max"]).reset_index()
    gaps = (ends["min"] - ends.groupby("reader")["max"].shift()).dt.days.dropna()
    if not len(gaps) or gaps.min() >= days:
        return ""
    shortest = counted(max(int(gaps.min()), 0), "day")
    return f"Between two sessions lay {shortest} where {days} were planned: images may have been remembered"


def _written(
    study: Study,
    answers: Sequence[Answer],
    out: Path,
    margin: float,
    seed: int,
    simulated: Sequence[str] | None,
) -> Analysed:
    with result_folder(out) as folder:
        analysed = analyse(study, answers, margin=margin, seed=seed)
        # Of simulated readers the trials would say which of the study's own is which.
        kept = {k: table for k, table in analysed.tables.items() if simulated is None or k != TRIALS}
        for name, table in kept.items():
            write_table(folder / name, table)
        said = (analysed.tables, analysed.answer, analysed.notes)
        write_text(folder / "index.html", render(study, *said, simulated))
        manifest = {
            "schema": READERS,
            "files": [*kept, "index.html"],
            "answer": analysed.answer,
            "notes": analysed.notes,
            "simulated": None if simulated is None else list(simulated),
            "settings": {**asdict(study.settings), "margin": margin, "seed": seed},
            "provenance": study.provenance,
        }
        write_json(folder / MANIFEST, manifest)
        # Before anybody can look at the result, whatever is killed between the two.
        if simulated is None:
            study.unseal(len(answers))
    return analysed
