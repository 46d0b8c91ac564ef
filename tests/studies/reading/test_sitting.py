"""A reader's way: times by the server's clock, one turn at a time, and on where it was after a kill."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from tests.tools.reader_studies import study_in
from ttr.errors import DataError, OptionError
from ttr.studies.reading.answers import opened
from ttr.studies.reading.sitting import Sitting

READ, MAPPED = {"answer": "yes", "confidence": 70}, {"answer": "no", "confidence": 0, "trust": 3}


class Clock:
    """Milliseconds that a test lets pass."""

    def __init__(self):
        self.ns = 10**9

    def __call__(self):
        return self.ns

    def pass_ms(self, ms):
        self.ns += ms * 1_000_000


@pytest.fixture
def study(tmp_path):
    return study_in(tmp_path, cases=2, readers=2, catch=0.5, repeats=0.0, washout=10)


@pytest.fixture
def clock():
    return Clock()


def sit(study, book, clock, reader="R1"):
    return Sitting(study, book, reader, clock, lambda: datetime(2026, 5, 1, tzinfo=timezone.utc))


def fitting(trial):
    if trial.kind == "pair":
        return {"preference": "B"}
    return READ if trial.condition == "none" else MAPPED


def answer_all(sitting, clock, count=None):
    done = 0
    while sitting.state()["stage"] != "done" and done != count:
        if sitting.current is None:
            sitting.begin()
        trial = sitting.current
        sitting.shown(trial.trial)
        clock.pass_ms(100)
        sitting.answer(trial.trial, fitting(trial))
        done += 1


def test_time_runs_from_the_display_to_the_answer_without_pauses(study, clock):
    with opened(study.folder) as book:
        sitting = sit(study, book, clock)
        sitting.begin()
        clock.pass_ms(5000)  # while the pictures come
        name = sitting.current.trial
        sitting.shown(name)
        clock.pass_ms(300)
        sitting.pause(name, True)
        sitting.pause(name, True)
        clock.pass_ms(9000)
        assert sitting.state()["paused"]
        with pytest.raises(OptionError, match="no such picture now"):
            sitting.picture(name, "image")
        sitting.pause(name, False)
        clock.pass_ms(200)
        sitting.shown(name)  # the page was loaded anew
        clock.pass_ms(34)
        sitting.answer(name, fitting(sitting.trials[0]))
        found = book.answers[0]
        assert (found.ms, found.paused_ms, found.pauses, found.displays) == (534, 9000, 1, 2)
        assert found.answered == "2026-05-01T00:00:00+00:00"


def test_a_page_that_was_closed_in_a_pause_goes_on_when_it_is_shown_again(study, clock):
    with opened(study.folder) as book:
        sitting = sit(study, book, clock)
        sitting.begin()
        name = sitting.current.trial
        sitting.pause(name, True)  # nothing stands there yet
        sitting.shown(name)
        sitting.pause(name, True)
        clock.pass_ms(70)
        sitting.shown(name)
        clock.pass_ms(5)
        sitting.answer(name, fitting(sitting.trials[0]))
        assert (book.answers[0].ms, book.answers[0].paused_ms) == (5, 70)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"answer": "maybe"},
        {"confidence": None},
        {"confidence": 101},
        {"confidence": True},
        {"confidence": 50.0},
        {"trust": None},
        {"trust": 0},
        {"trust": "3"},
    ],
)
def test_half_an_answer_is_refused_and_the_turn_stays(study, clock, wrong):
    with opened(study.folder) as book:
        sitting = sit(study, book, clock)
        sitting.begin()
        answer_all(sitting, clock, [t.condition == "none" for t in sitting.trials].index(False))
        name = sitting.current.trial
        sitting.shown(name)
        given = {**MAPPED, **wrong} if wrong else {}
        with pytest.raises(OptionError, match="is missing"):
            sitting.answer(name, given)
        assert sitting.current.trial == name


def test_no_other_turn_than_the_present_one_is_answered_or_shown(study, clock):
    with opened(study.folder) as book:
        sitting = sit(study, book, clock)
        first, second = (trial.trial for trial in sitting.trials[:2])
        with pytest.raises(OptionError, match="another image's turn"):
            sitting.shown(first)  # the session has not begun
        sitting.begin()
        with pytest.raises(OptionError, match="has not been shown yet"):
            sitting.answer(first, fitting(sitting.trials[0]))
        for name in (second, "", "nothing"):
            with pytest.raises(OptionError, match="another image's turn"):
                sitting.answer(name, READ)
            with pytest.raises(OptionError, match="another image's turn"):
                sitting.picture(name, "image")
        with pytest.raises(OptionError, match="no such picture"):
            sitting.picture(first, "a")
        answer_all(sitting, clock, 1)
        with pytest.raises(OptionError, match="another image's turn"):
            sitting.answer(first, READ)  # sent twice, it counts once
        assert len(book.answers) == 1


def test_after_a_kill_each_reader_goes_on_where_they_were(study, clock):
    with opened(study.folder) as book:
        one, other = sit(study, book, clock), sit(study, book, clock, "R2")
        answer_all(one, clock, 1)
        answer_all(other, clock, 3)
    with opened(study.folder) as book:
        for reader, done, first in (("R1", 1, 2), ("R2", 3, 1)):
            again = sit(study, book, clock, reader)
            assert again.done == done
            answer_all(again, clock)
            # What stood there before the kill is shown again; between two sessions nothing did.
            later = [each.displays for each in book.answers if each.reader == reader][done:]
            assert later == [first, *[1] * (len(later) - 1)]
            assert again.state() == {"stage": "done", "reader": reader, "sessions": 3}
        assert {a.trial for a in book.answers} == {t.trial for t in study.key.trials}


def test_a_session_begins_when_its_reader_begins_it_and_says_when_that_should_be(study, clock):
    with opened(study.folder) as book:
        sitting = sit(study, book, clock)
        assert sitting.state()["earliest"] == ""
        count = sum(trial.session == 1 for trial in sitting.trials)
        answer_all(sitting, clock, count)
        state = sitting.state()
        assert (state["stage"], state["session"], state["earliest"]) == ("between", 2, "2026-05-11")
        assert sit(study, book, clock).state() == state  # and after a kill between two sessions


def test_what_the_page_is_told_does_not_tell_the_condition(study, clock):
    with opened(study.folder) as book:
        sitting = sit(study, book, clock)
        told = {}
        while sitting.state()["stage"] != "done":
            if sitting.current is None:
                sitting.begin()
            trial, state = sitting.current, sitting.state()
            del state["trial"], state["number"], state["session"], state["of"]
            told.setdefault(trial.condition, []).append(state)
            answer_all(sitting, clock, 1)
        with_map = [told[name] for name in ("before", "after", "perturbed")]
        assert all(state == with_map[0][0] for states in with_map for state in states)
        assert {str(state) for state in told["pair"]} == {str(told["pair"][0])}


def test_answers_that_are_not_the_readers_own_in_order_are_refused(study, clock):
    with opened(study.folder) as book:
        answer_all(sit(study, book, clock), clock, 2)
        book.answers.reverse()
        with pytest.raises(DataError, match="in order"):
            sit(study, book, clock)


def test_an_unsealed_study_takes_no_answer(study, clock):
    with opened(study.folder) as book:
        sitting = sit(study, book, clock)
        answer_all(sitting, clock, 1)
        study.unseal(1)
        with pytest.raises(OptionError, match="would not be blind"):
            sitting.shown(sitting.current.trial)
