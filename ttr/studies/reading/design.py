"""Who sees which image how and when: a crossover in which every reader reads every image in every condition.

There is a session a condition. In which order a reader meets the conditions of an image follows a Williams
design (1949): each condition stands in each session equally often, and each follows each equally often. The
images of a reader are dealt evenly over its sequences, and each image goes to the next sequence from reader
to reader. Within a session the order is random, another one for each reader, and given by the seed.

Some images come twice in a session, in either half once: with a map that is not theirs (catch trials), or as
they were (repeats). At the end of the last session both maps of each image stand side by side as A, at the
left, and B; which of the two A is alternates among the images of a sequence.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np

from ttr.studies.reading.settings import AFTER, BEFORE, ReadingSettings

Kind = Literal["read", "catch", "repeat", "pair"]
#: The condition of a map that is not its image's, and of two maps.
PERTURBED, PAIR = "perturbed", "pair"


@dataclass(frozen=True)
class Trial:
    """One image shown to one reader once.

    Attributes:
        trial: its name, which says nothing.
        reader: who sees it.
        session: from 1.
        position: in the session, from 1.
        kind: why it is shown.
        case: number of the image, from 0.
        condition: how it is shown: of :data:`ttr.studies.reading.settings.CONDITIONS`, perturbed, or pair.
        left: of a pair, which map is A, at the left: before or after; else empty.
    """

    trial: str
    reader: str
    session: int
    position: int
    kind: Kind
    case: int
    condition: str
    left: str = ""


@dataclass(frozen=True)
class Doubles:
    """Images that come twice: those with another map, and those as they were."""

    catch: tuple[int, ...]
    repeats: tuple[int, ...]


def williams(count: int) -> list[list[int]]:
    """Return the sequences of a Williams design for ``count`` conditions: so many of them, or twice as many.

    Each condition stands equally often in each place, and right behind each other one.
    """
    first = [place // 2 if place % 2 == 0 else count - 1 - place // 2 for place in range(count)]
    square = [[(each + shift) % count for each in first] for shift in range(count)]
    return square + [row[::-1] for row in square] if count % 2 and count > 1 else square


def doubles(cases: int, settings: ReadingSettings, seed: int) -> Doubles:
    """Return which images come twice, the same for all readers; none is both unless there are too few."""
    order = np.random.default_rng([seed, 0]).permutation(cases).tolist()
    caught = min(max(round(settings.catch * cases), 1 if settings.catch else 0), cases)
    again = min(max(round(settings.repeats * cases), 1 if settings.repeats else 0), cases)
    return Doubles(tuple(order[:caught]), tuple(order[::-1][:again]))


def plan(
    cases: int, settings: ReadingSettings, seed: int, name: Callable[[], str] = lambda: secrets.token_hex(8)
) -> list[Trial]:
    """Return every trial of every reader in order.

    Args:
        cases: images.
        settings: what is asked.
        seed: of every order; the same seed gives the same orders.
        name: gives each trial a name, which must not follow from the seed.
    """
    twice = doubles(cases, settings, seed)
    dealt = np.random.default_rng([seed, 1]).permutation(cases)
    found = []
    for reader in range(settings.readers):
        random = np.random.default_rng([seed, 2, reader])
        found += _of_reader(reader, dealt, twice, settings, random, name)
    return found


def _of_reader(
    reader: int,
    dealt: np.ndarray,
    twice: Doubles,
    settings: ReadingSettings,
    random: np.random.Generator,
    name: Callable[[], str],
) -> list[Trial]:
    sequences = williams(len(settings.conditions))
    own = (dealt + reader) % len(sequences)
    trials: list[Trial] = []
    sessions = len(settings.conditions)
    for session in range(sessions):
        reads = [settings.conditions[sequences[own[case]][session]] for case in range(len(dealt))]
        shown: list[tuple[Kind, int, str, str]]
        shown = [("read", case, how, "") for case, how in enumerate(reads)]
        shown += [("catch", case, PERTURBED, "") for case in twice.catch[session::sessions]]
        shown += [("repeat", case, reads[case], "") for case in twice.repeats[session::sessions]]
        shown = _mixed(shown, random)
        if settings.pairs and session == sessions - 1:
            shown += _pairs(own, random)
        trials += [
            Trial(name(), f"R{reader + 1}", session + 1, place, *what)
            for place, what in enumerate(shown, start=1)
        ]
    return trials


def _mixed(
    shown: Sequence[tuple[Kind, int, str, str]], random: np.random.Generator
) -> list[tuple[Kind, int, str, str]]:
    """Return them in random order, those of one image in different halves as far as there are two halves."""
    halves: tuple[list[int], list[int]] = ([], [])
    of_image: dict[int, list[int]] = {}
    for place in random.permutation(len(shown)).tolist():
        of_image.setdefault(shown[place][1], []).append(place)
    # Those that come twice are dealt first; single ones fill up the shorter half.
    for places in sorted(of_image.values(), key=len, reverse=True):
        start = int(random.integers(2)) if len(places) > 1 else int(len(halves[0]) > len(halves[1]))
        for number, place in enumerate(places):
            halves[(start + number) % 2].append(place)
    return [shown[half[place]] for half in halves for place in random.permutation(len(half))]


def _pairs(own: np.ndarray, random: np.random.Generator) -> list[tuple[Kind, int, str, str]]:
    """Return a pair an image in random order; among the images of a sequence the left map alternates."""
    order = sorted(random.permutation(len(own)).tolist(), key=lambda case: own[case])
    pairs: list[tuple[Kind, int, str, str]] = []
    for _, group in groupby(order, key=lambda case: own[case]):
        start = int(random.integers(2))
        pairs += [
            ("pair", case, PAIR, (BEFORE, AFTER)[(start + place) % 2]) for place, case in enumerate(group)
        ]
    return [pairs[place] for place in random.permutation(len(pairs))]
