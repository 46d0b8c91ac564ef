"""A reader's way through the study: what is shown now, for how long, and what may be answered.

Time runs by a monotonic clock of the server, from the moment the reader's page says that its pictures stand
there, to the answer; pauses are taken off, during which no picture is given out. What the page is told of a
trial is the same whatever its condition: how many pictures there are, and nothing of which.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ttr.errors import DataError, OptionError
from ttr.studies.reading.answers import Answer, AnswerBook, moment
from ttr.studies.reading.design import Trial
from ttr.studies.reading.folder import Study
from ttr.studies.reading.settings import AFTER, BEFORE, CONFIDENCE, NONE, TRUST

#: What a reader may prefer of a pair.
PREFERENCES = ("A", "B", "neither")
NANOSECONDS = 1_000_000


def utc_now() -> datetime:
    """Return the time of day, in UTC."""
    return datetime.now(timezone.utc)


@dataclass
class _Shown:
    """A trial that stands before a reader since ``at``; ``since``: of a pause that goes on."""

    trial: str
    at: int
    displays: int = 1
    paused: int = 0
    pauses: int = 0
    since: int | None = None


class Sitting:
    """One reader at the study.

    Args:
        study: the study.
        book: its answers.
        reader: who reads.
        clock: nanoseconds that only grow.
        now: the time of day.

    Raises:
        DataError: an answer of this reader belongs to none of the trials.
    """

    def __init__(
        self,
        study: Study,
        book: AnswerBook,
        reader: str,
        clock: Callable[[], int] = time.monotonic_ns,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.study, self.book, self.reader, self.clock, self.now = study, book, reader, clock, now
        self.trials = study.of_reader(reader)
        own = [answer.trial for answer in book.answers if answer.reader == reader]
        if own != [trial.trial for trial in self.trials[: len(own)]]:
            raise DataError(
                f"the answers of {reader} are not to the study's trials in order; put the file back"
            )
        self.done = len(own)
        # Who was in the middle of a session goes on with it.
        self.begun = self.done > 0 and not self._at_a_start()
        self._shown: _Shown | None = None
        # What stood there when the page was served before is not known any more, but that it did.
        self._again = self.trials[self.done].trial if self.begun and self.done < len(self.trials) else ""

    @property
    def current(self) -> Trial | None:
        """The trial whose turn it is; None before a session and at the end."""
        return self.trials[self.done] if self.begun and self.done < len(self.trials) else None

    def state(self) -> dict[str, Any]:
        """Return what the page shows now, as JSON values."""
        sessions = len(self.study.settings.conditions)
        if self.done == len(self.trials):
            return {"stage": "done", "reader": self.reader, "sessions": sessions}
        session = self.trials[self.done].session
        own = [trial for trial in self.trials if trial.session == session]
        place = {"reader": self.reader, "session": session, "sessions": sessions, "of": len(own)}
        trial = self.current
        if trial is None:
            return {"stage": "between", **place, "earliest": self._earliest()}
        return {
            "stage": "pair" if trial.kind == "pair" else "read",
            **place,
            "number": trial.position,
            "trial": trial.trial,
            "slots": list(_pictures(trial)),
            "paused": self._is_paused(trial),
        }

    def begin(self) -> None:
        """Begin the next session."""
        self.begun = True

    def shown(self, name: str) -> None:
        """Note that a trial stands before the reader, from now on or again."""
        self._require(name)
        now = self.clock()
        if self._shown is None or self._shown.trial != name:
            self._shown = _Shown(name, now, displays=2 if name == self._again else 1)
        else:
            self._shown.displays += 1
            self._go_on(now)

    def pause(self, name: str, paused: bool) -> None:
        """Begin or end a pause; before the trial stands there, and twice, it means nothing."""
        self._require(name)
        shown, now = self._shown, self.clock()
        if shown is None or shown.trial != name:
            return
        if not paused:
            self._go_on(now)
        elif shown.since is None:
            shown.since, shown.pauses = now, shown.pauses + 1

    def picture(self, name: str, slot: str) -> Path:
        """Return the picture in a slot of the trial whose turn it is.

        Raises:
            OptionError: it is another trial's turn, there is a pause, or no such slot.
        """
        trial = self._require(name)
        condition = _pictures(trial).get(slot)
        if condition is None or self._is_paused(trial):
            raise OptionError("there is no such picture now; load the page again")
        return self.study.folder / self.study.key.cases[trial.case].pictures[condition]

    def answer(self, name: str, given: dict[str, Any]) -> None:
        """Take the answer to the trial whose turn it is, and go on.

        Args:
            name: of the trial.
            given: ``answer``, ``confidence`` and, where a map was shown, ``trust``; of a pair ``preference``.

        Raises:
            OptionError: it is another trial's turn, the trial was not shown, or the answer is not whole.
            OutputError: it could not be written; it is still this trial's turn.
        """
        trial, now = self._require(name), self.clock()
        said = self._checked(trial, given)
        shown = self._shown
        if shown is None or shown.trial != name:
            raise OptionError("the image has not been shown yet; wait for it")
        self._go_on(now)
        ms = round((now - shown.at - shown.paused) / NANOSECONDS)
        paused = round(shown.paused / NANOSECONDS)
        when = self.now().isoformat(timespec="seconds")
        place = (trial.trial, self.reader, trial.session, trial.position)
        self.book.append(Answer(*place, *said, ms, paused, shown.pauses, shown.displays, when))
        self.done += 1
        self._shown = None
        if self._at_a_start():
            self.begun = False

    def _require(self, name: str) -> Trial:
        trial = self.current
        if trial is None or trial.trial != name:
            raise OptionError("it is another image's turn; load the page again")
        if self.study.unsealed:
            raise OptionError("the study was analysed, and an answer would not be blind; no more are taken")
        return trial

    def _checked(self, trial: Trial, given: dict[str, Any]) -> tuple[str, int | None, int | None, str]:
        """Return answer, confidence, trust and preference."""
        if trial.kind == "pair":
            return "", None, None, _one_of("preference", given.get("preference"), PREFERENCES)
        answer = _one_of("answer", given.get("answer"), self.study.settings.answers)
        confidence = _grade("confidence", given.get("confidence"), CONFIDENCE)
        trust = _grade("trust", given.get("trust"), TRUST) if trial.condition != NONE else None
        return answer, confidence, trust, ""

    def _at_a_start(self) -> bool:
        done = self.done
        return done < len(self.trials) and self.trials[done].session != self.trials[done - 1].session

    def _is_paused(self, trial: Trial) -> bool:
        shown = self._shown
        return shown is not None and shown.trial == trial.trial and shown.since is not None

    def _go_on(self, now: int) -> None:
        shown = self._shown
        if shown is not None and shown.since is not None:
            shown.paused += now - shown.since
            shown.since = None

    def _earliest(self) -> str:
        """Return the day from which the next session should be; empty: any, since none was yet."""
        if not self.done:
            return ""
        last = next(a for a in reversed(self.book.answers) if a.reader == self.reader).answered
        day = moment(last).date() + timedelta(days=self.study.settings.washout)
        return day.isoformat() if day > self.now().date() else ""


def _pictures(trial: Trial) -> dict[str, str]:
    """Return {slot of the page: condition whose picture stands there}."""
    if trial.kind == "pair":
        right = AFTER if trial.left == BEFORE else BEFORE
        return {"image": NONE, "a": trial.left, "b": right}
    return {"image": NONE} if trial.condition == NONE else {"image": NONE, "map": trial.condition}


def _one_of(what: str, given: Any, known: tuple[str, ...]) -> str:
    if not isinstance(given, str) or given not in known:
        raise OptionError(f"the {what} is missing; choose one of {', '.join(known)}")
    return given


def _grade(what: str, given: Any, known: range) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or given not in known:
        raise OptionError(f"the {what} is missing; give a whole number from {known[0]} to {known[-1]}")
    return given
