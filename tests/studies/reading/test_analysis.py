"""The analysis as a folder: it waits for all readers, unseals, and says in one sentence what came of it."""

from __future__ import annotations

import html
import json
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from tests.tools.reader_studies import study_in, study_of
from tests.tools.report_page import held_to_the_design
from ttr.errors import DataError, OptionError
from ttr.studies.reading.analysis import analyse, remarks, write_analysis
from ttr.studies.reading.answers import NAME, opened, read_answers
from ttr.studies.reading.folder import UNSEALED, read_study
from ttr.studies.reading.joined import joined
from ttr.studies.reading.page import render
from ttr.studies.reading.settings import CONDITIONS
from ttr.studies.reading.simulated import biased, simulate


def fill_in(study, answers):
    with opened(study.folder) as book:
        for answer in answers:
            book.append(answer)


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    return study_in(folder, cases=6, readers=2, catch=0.2, repeats=0.2)


def test_a_study_is_analysed_once_all_have_read_and_is_over_then(study, tmp_path):
    answers = simulate(study, [biased(())] * 2, 1)
    with pytest.raises(OptionError, match="nobody has answered"):
        write_analysis(study.folder, tmp_path / "out")
    fill_in(study, answers[:-3])
    with pytest.raises(OptionError, match="R2 has read 23 of 26; wait until all are read"):
        write_analysis(study.folder, tmp_path / "out")
    assert not (study.folder / UNSEALED).exists()
    fill_in(study, answers[-3:])
    found = write_analysis(study.folder, tmp_path / "out")
    assert read_study(study.folder).unsealed
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["answer"] == found.answer
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*manifest["files"], "manifest.json"}
    trials = pd.read_csv(tmp_path / "out" / "trials.csv")
    assert len(trials) == len(read_answers(study.folder)) == len(found.tables["trials.csv"])
    assert {"image", "condition", "truth", "right", "for_left"} <= set(trials)
    held_to_the_design(tmp_path / "out" / "index.html")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "Simulated readers" not in page
    assert page.count("data-chart=") == 5


def test_an_interim_look_ends_the_study_and_takes_what_there_is(study, tmp_path):
    answers = simulate(study, [biased(())] * 2, 1)
    fill_in(study, answers[:20])  # one reader, who has not finished
    found = write_analysis(study.folder, tmp_path / "out", incomplete=True)
    assert read_study(study.folder).unsealed
    assert len(found.tables["trials.csv"]) == 20
    fill_in(study, answers[20:])
    (study.folder / NAME).write_text((study.folder / NAME).read_text().splitlines()[0] + "\n")
    fill_in(study, answers[:1])
    one = write_analysis(study.folder, tmp_path / "out", incomplete=True)  # an earlier result is replaced
    assert one.answer.startswith("No two images were read")


def test_simulated_readers_leave_the_study_sealed_and_are_called_so(study, tmp_path):
    write_analysis(study.folder, tmp_path / "out", simulated=["left"])
    assert (
        "Nobody read an image: these readers were made with left" in (tmp_path / "out/index.html").read_text()
    )
    assert {path.name for path in study.folder.iterdir()} & {NAME, UNSEALED} == set()
    for path in (tmp_path / "out").glob("*.csv"):
        assert not {"trial", "position", "case"} & set(pd.read_csv(path))
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*manifest["files"], "manifest.json"}
    with pytest.raises(OptionError, match="is the study itself"):
        write_analysis(study.folder, study.folder / ".", simulated=[])


def test_a_study_is_unsealed_before_anybody_can_look_at_its_result(study, tmp_path, monkeypatch):
    @contextmanager
    def killed(out):
        yield tmp_path
        assert read_study(study.folder).unsealed
        raise KeyboardInterrupt

    monkeypatch.setattr("ttr.studies.reading.analysis.result_folder", killed)
    fill_in(study, simulate(study, [biased(())] * 2, 1)[:1])
    with pytest.raises(KeyboardInterrupt):
        write_analysis(study.folder, tmp_path / "out", incomplete=True)


def test_numbers_are_those_of_the_answers_counted_by_hand():
    study = study_of(8, readers=3)
    answers = simulate(study, [biased(("helped",))] * 3, 2)
    found = analyse(study, answers)
    trials = {trial.trial: trial for trial in study.key.trials}
    conditions = found.tables["conditions.csv"].set_index(["metric", "condition"])
    for condition in CONDITIONS:
        read = [
            a for a in answers if trials[a.trial].kind == "read" and trials[a.trial].condition == condition
        ]
        truth = np.array([study.key.cases[trials[a.trial].case].truth == "yes" for a in read])
        yes = np.array([a.answer == "yes" for a in read])
        assert conditions.value["accuracy", condition] == pytest.approx((yes == truth).mean())
        seconds = stats.gmean([a.ms / 1000 for a in read])
        assert np.exp(conditions.value["log_seconds", condition]) == pytest.approx(seconds)
        scores = np.array([a.confidence * (1 if a.answer == "yes" else -1) for a in read])
        who = np.array([a.reader for a in read])
        areas = [roc_auc_score(truth[who == each], scores[who == each]) for each in ("R1", "R2", "R3")]
        assert conditions.value["auc", condition] == pytest.approx(np.mean(areas))
    assert "accuracy" in set(found.tables["differences.csv"].metric)
    assert f"{100 * conditions.value['accuracy', 'none']:.1f} % without a map" in found.answer
    preferred = found.tables["preference.csv"].set_index("reader")
    pairs = [(a, trials[a.trial]) for a in answers if a.reader == "R2" and trials[a.trial].kind == "pair"]
    after = sum(
        a.preference == ("A" if t.left == "after" else "B") for a, t in pairs if a.preference != "neither"
    )
    decided = sum(a.preference != "neither" for a, _ in pairs)
    assert preferred.after["R2"] == after
    assert preferred.p["R2"] == pytest.approx(stats.binomtest(after, decided).pvalue)


def test_without_truths_nothing_is_said_of_right_and_wrong():
    study = study_of(6, readers=2, truth=False)
    found = analyse(study, simulate(study, [biased(())] * 2, 0))
    assert set(found.tables["conditions.csv"].metric) == {"confidence", "trust", "log_seconds"}
    assert "trust in the map" in found.answer
    assert "No truth was given: nothing is said of right and wrong" in found.notes


def test_more_than_two_answers_have_no_curve_and_one_reader_is_said_to_be_one():
    study = study_of(6, readers=1, answers=("none", "mild", "severe"))
    found = analyse(study, simulate(study, [biased(())], 0))
    assert "auc" not in set(found.tables["conditions.csv"].metric)
    assert any(note.startswith("One reader") for note in found.notes)


def test_a_washout_that_was_not_kept_is_said():
    study = study_of(6, readers=2, washout=14)
    answers = simulate(study, [biased(())] * 2, 0)
    assert not any("Between two sessions" in note for note in remarks(study, joined(study, answers)))
    hasty = [replace(a, answered="2026-01-01T00:00:00+00:00") for a in answers]
    assert any("lay no days where 14 were planned" in note for note in remarks(study, joined(study, hasty)))
    # From the day on that the page names, at whatever hour.
    early = [
        replace(a, answered=a.answered.replace("T09", "T21" if a.session == 1 else "T07"))
        for a in answers
        if a.session < 3
    ]
    assert not any("Between two sessions" in note for note in remarks(study, joined(study, early)))


def test_answers_of_another_study_or_that_nobody_could_give_are_refused():
    study = study_of(4, readers=1)
    answers = simulate(study, [biased(())], 0)
    with pytest.raises(DataError, match="belongs to none of the study"):
        joined(study_of(2, readers=1), answers)
    trials = {trial.trial: trial for trial in study.key.trials}
    mapped, bare = (
        next(a for a in answers if (trials[a.trial].condition in ("before", "after")) == shown)
        for shown in (True, False)
    )
    numbers = (("ms", -1), ("ms", 10**30), ("paused_ms", -1), ("displays", -1))
    for answer, name, value in (
        *((mapped, *each) for each in (("answer", "perhaps"), ("confidence", 300), ("trust", 9), *numbers)),
        (mapped, "trust", None),
        (bare, "trust", 3),
    ):
        with pytest.raises(DataError, match="none of the study's"):
            joined(study, [replace(answer, **{name: value})])
    for when in ("yesterday", "", "2026-01-01T09:00:00", "01.01.2026 09:00"):
        with pytest.raises(DataError, match="no time of a zone"):
            joined(study, [replace(mapped, answered=when)])


@pytest.mark.parametrize(
    ("settings", "cases", "share"),
    [
        ({"readers": 1, "conditions": ("none",), "catch": 0.0}, 2, 1.0),
        ({"readers": 2, "conditions": ("before", "after"), "answers": ("a", "b", "c")}, 3, 1.0),
        ({"readers": 3, "catch": 0.5, "repeats": 0.5}, 7, 0.5),
        ({"readers": 2, "pairs": False}, 3, 0.9),
        ({"readers": 1, "catch": 0.5}, 2, 0.1),
    ],
)
def test_any_study_however_small_or_unfinished_comes_to_a_sentence_and_a_page(settings, cases, share):
    study = study_of(cases, **settings)
    answers = simulate(study, [biased(())] * study.settings.readers, 0)
    found = analyse(study, answers[: max(1, int(share * len(answers)))])
    assert found.answer.endswith(".")
    page = render(study, found.tables, found.answer, found.notes, None)
    assert found.answer[:40] in html.unescape(page)
