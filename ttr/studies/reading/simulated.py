"""Readers whose faults are known: to see that the analysis finds each, and none that nobody has.

A simulated reader knows the truth of a case with a probability that depends on the case and on the reader, is
as sure as that, and takes a log-normal time. Each bias of :data:`BIASES` is planted by one number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

import numpy as np

from ttr.checks import names
from ttr.errors import OptionError
from ttr.studies.reading.answers import Answer
from ttr.studies.reading.design import PERTURBED, Trial
from ttr.studies.reading.folder import Study
from ttr.studies.reading.settings import AFTER, BEFORE, NONE, ReadingSettings


@dataclass(frozen=True)
class SimulatedReader:
    """How a simulated reader reads; by default without any bias, and no map helps or harms.

    Attributes:
        logit: of being right, at the mean case.
        spread: standard deviation of a case's, and of a reader's, own share of it.
        helped: logits that the map after adds, and that the map before takes away.
        prefers_after: chance that a pair is decided for the map after, whatever else.
        left: chance that it is decided for the left one.
        first: chance that it is decided for the one seen first.
        slower: log seconds that a map adds.
        follows: chance of going wrong with a map that is not the image's, which is trusted like any other.
        drift: logits that are lost, and log seconds that are saved, over a session.
        guesses: whether answers are drawn, not read.
    """

    logit: float = 1.2
    spread: float = 0.5
    helped: float = 0.0
    prefers_after: float = 0.0
    left: float = 0.0
    first: float = 0.0
    slower: float = 0.0
    follows: float = 0.0
    drift: float = 0.0
    guesses: bool = False


#: {name: how a reader with that bias reads}.
BIASES: dict[str, dict[str, float | bool]] = {
    "helped": {"helped": 1.0},
    "prefers-after": {"prefers_after": 0.5},
    "left": {"left": 0.5},
    "first": {"first": 0.5},
    "slower": {"slower": 0.3},
    "follows": {"follows": 0.9},
    "drift": {"drift": 1.5},
    "guesses": {"guesses": True},
}


def biased(named: Sequence[str]) -> SimulatedReader:
    """Return a reader with biases by name; none for none.

    Raises:
        OptionError: there is no such bias.
    """
    reader = SimulatedReader()
    for name in names("biases", named, BIASES) if named else ():
        reader = replace(reader, **BIASES[name])  # type: ignore[arg-type]
    return reader


def simulate(study: Study, readers: Sequence[SimulatedReader], seed: int) -> list[Answer]:
    """Return the answers of simulated readers to every trial of a study; unknown truths are drawn.

    Raises:
        OptionError: there are fewer or more readers than the study has.
    """
    codes = list(study.key.codes)
    if len(readers) != len(codes):
        raise OptionError(
            f"got {len(readers)} simulated readers; needed {len(codes)}, as many as the study has"
        )
    random = np.random.default_rng([seed, 4])
    answers, cases = study.settings.answers, study.key.cases
    truth = [case.truth or answers[int(random.integers(len(answers)))] for case in cases]
    ease = random.standard_normal(len(cases))
    found = []
    for reader, code in zip(readers, codes, strict=True):
        found += _read(reader, study.of_reader(code), truth, ease, study.settings, random)
    return found


def _read(
    reader: SimulatedReader,
    trials: Sequence[Trial],
    truth: Sequence[str],
    ease: np.ndarray,
    settings: ReadingSettings,
    random: np.random.Generator,
) -> list[Answer]:
    own, lasts = random.standard_normal(2), {trial.session: trial.position for trial in trials}
    days = {session: _day(settings.washout * (session - 1)) for session in lasts}
    first: dict[int, str] = {}
    found = []
    for trial in trials:
        if trial.kind == "read" and trial.condition in (BEFORE, AFTER):
            first.setdefault(trial.case, trial.condition)
        done = (trial.position - 1) / max(lasts[trial.session] - 1, 1)
        seconds = np.exp(2 + 0.2 * own[1] + 0.4 * random.standard_normal() - 0.4 * reader.drift * done)
        place = (trial.trial, trial.reader, trial.session, trial.position)
        if trial.kind == "pair":
            preferred = _prefer(reader, trial, first.get(trial.case, ""), random)
            said: tuple[str, int | None, int | None, str] = ("", None, None, preferred)
        else:
            seconds *= np.exp(reader.slower * (trial.condition != NONE))
            logit = reader.logit + reader.spread * (ease[trial.case] + own[0]) - reader.drift * done
            said = *_answer(reader, trial, truth[trial.case], logit, settings.answers, random), ""
        found.append(Answer(*place, *said, round(1000 * seconds), 0, 0, 1, days[trial.session]))
    return found


def _day(number: int) -> str:
    return (datetime(2026, 1, 1, 9, tzinfo=timezone.utc) + timedelta(days=number)).isoformat()


def _answer(
    reader: SimulatedReader,
    trial: Trial,
    truth: str,
    logit: float,
    answers: Sequence[str],
    random: np.random.Generator,
) -> tuple[str, int, int | None]:
    logit += reader.helped * {AFTER: 1.0, BEFORE: -1.0}.get(trial.condition, 0.0)
    chance = 1 / len(answers) if reader.guesses else 1 / (1 + np.exp(-logit))
    led = trial.condition == PERTURBED and random.random() < reader.follows
    right = random.random() < chance and not led
    wrong = [answer for answer in answers if answer != truth]
    answer = truth if right else wrong[int(random.integers(len(wrong)))]
    sure = int(np.clip(20 * round(random.normal(60 + 15 * (2 * right - 1), 20) / 20), 0, 100))
    if trial.condition == NONE:
        return answer, sure, None
    doubts = trial.condition == PERTURBED and not (reader.follows or reader.guesses)
    return answer, sure, int(np.clip(round(random.normal(2.0 if doubts else 3.5, 0.8)), 1, 5))


def _prefer(reader: SimulatedReader, trial: Trial, first: str, random: np.random.Generator) -> str:
    side = {trial.left: "A"}
    draw = random.random()
    if draw < reader.prefers_after:
        return side.get(AFTER, "B")
    if draw < reader.prefers_after + reader.left:
        return "A"
    if first and draw < reader.prefers_after + reader.left + reader.first:
        return side.get(first, "B")
    return ("A", "B", "neither")[int(random.choice(3, p=(0.4, 0.4, 0.2)))]
