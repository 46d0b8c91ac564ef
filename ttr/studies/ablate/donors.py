"""Who may give a token to whom, and in which order images are drawn so that others are at hand.

A test that an image passes on another image's token says something only if that image is another case. In
sorted order neighbours are of one class and one patient, and a swap among them leaves in place what it was to
take away. So

  1. images come in a random order, by the hash of the seed and their names: chunks and batches are draws;
  2. a donor is always of another group (patient), and with ``other-class`` of another class, too; for pairs
     of images it is a pair that shares no image with the taker's;
  3. a batch in which an image has no donor takes in the images after it, up to the whole chunk of 64; where a
     chunk has none for some image, the whole order is drawn again, :data:`REDRAWS` times at most. Then a
     shuffle is refused.

Donors are a permutation drawn anew at each block, each permitted one equally likely where
:data:`TRIES` draws find one. Where they find none (most are forbidden, as with two classes), one comes out of
an assignment with random costs, in which every permitted donor is possible, not all permutations equally. And
where there is no permutation (three in four images of one class), each image gives as few times as can be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ttr.datasets.layouts.spair import KeypointPair
from ttr.digests import sha256
from ttr.errors import OptionError
from ttr.features.chunks import chunked
from ttr.wording import counted

REDRAWS = 100
TRIES = 100


@dataclass(frozen=True)
class Case:
    """What decides whether one image may stand in for another.

    Attributes:
        of: what they may not share: the patient (group), or the files of a pair.
        label: the class.
    """

    of: frozenset[Hashable]
    label: str = ""


def case_of(item: Any) -> Case:
    """Return the case of an item of a labelled set, or of an annotated pair."""
    if isinstance(item, KeypointPair):
        return Case(frozenset((item.source, item.target)), item.category)
    return Case(frozenset((item.unit,)), item.label)


def strangers(where: str, count: int) -> list[Case]:
    """Return cases of which nothing is known but that they differ, and from those elsewhere."""
    return [Case(frozenset(((where, index),))) for index in range(count)]


def may_give(takers: Sequence[Case], givers: Sequence[Case], rule: str = "any") -> np.ndarray:
    """Return who may give to whom, bool [T, G]; ``rule`` is one of the settings' ``DONORS``."""
    known = {unit: place for place, unit in enumerate({u for case in (*takers, *givers) for u in case.of})}
    taken, given = (np.zeros((len(cases), len(known))) for cases in (takers, givers))
    for cases, member in ((takers, taken), (givers, given)):
        for row, case in enumerate(cases):
            member[row, [known[unit] for unit in case.of]] = 1
    allowed = taken @ given.T == 0
    if rule == "other-class":
        labels = (np.array([case.label for case in cases], dtype=object) for cases in (takers, givers))
        allowed &= np.not_equal.outer(*labels).astype(bool)
    return allowed


def kinship(takers: Sequence[Case], givers: Sequence[Case], donors: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return in which share of the blocks each image's donor was of its class, and of its group, [B] each.

    ``donors`` are places among ``givers``, int64 [L', B].
    """
    alike = np.equal.outer(*(np.array([c.label for c in cases], dtype=object) for cases in (takers, givers)))
    related = ~may_give(takers, givers)
    drawn = donors.numpy(), np.arange(len(takers))
    both = (table.astype(np.float32)[drawn[1], drawn[0]].mean(axis=0) for table in (alike, related))
    of_class, of_group = both
    return of_class, of_group


def class_by_chance(takers: Sequence[Case], givers: Sequence[Case]) -> float:
    """Return the mean share of an image's class among those that may give to it by rule ``any``, 0..1."""
    labels = Counter(case.label for case in givers)
    of_unit: dict[Hashable, list[int]] = {}
    for place, case in enumerate(givers):
        for unit in case.of:
            of_unit.setdefault(unit, []).append(place)
    shares = []
    for case in takers:
        related = {place for unit in case.of for place in of_unit.get(unit, ())}
        same = labels[case.label] - sum(givers[place].label == case.label for place in related)
        if others := len(givers) - len(related):
            shares.append(same / others)
    return float(np.mean(shares)) if shares else float("nan")


def all_served(cases: Sequence[Case], rule: str = "any") -> bool:
    """Return whether each of some images has a donor among the others."""
    return bool(may_give(cases, cases, rule).any(axis=1).all())


def drawn_order(items: Sequence[Any], seed: int, rule: str = "any", *, strict: bool = True) -> list[int]:
    """Return the places of items in the order of the draw; see the module.

    Raises:
        OptionError: no draw gave each a donor in its chunk, and ``strict`` asks for it.
    """
    first: list[int] = []
    for attempt in range(REDRAWS):
        keys = [sha256([f"{seed}\n{attempt}\n{item.draw_name}"]) for item in items]
        order = sorted(range(len(items)), key=keys.__getitem__)
        if all(all_served([case_of(items[place]) for place in chunk], rule) for chunk in chunked(order)):
            return order
        first = first or order
    if strict:
        other, wider = "another patient (group)", ""
        if rule == "other-class":
            other, wider = "another class", "take donors of any class (--donors any), "
        raise OptionError(
            f"{REDRAWS} draws of the order brought {counted(len(items), 'image')} into no chunks in which "
            f"each has an image of {other} beside it, whose tokens it could take; leave shuffle out, "
            f"{wider}or add images of others"
        )
    return first


def batches(cases: Sequence[Case], size: int, rule: str = "any") -> list[slice]:
    """Return the batches of a chunk, of ``size`` images or as many more as it takes to serve each.

    What is left over joins the last one, if it does not do by itself. Where the whole chunk would not do,
    batches are of ``size`` images, and one that would be left alone joins the last.
    """
    count = len(cases)
    possible = all_served(cases, rule)

    def does(part: slice) -> bool:
        return all_served(cases[part], rule) if possible else part.stop - part.start > 1

    found: list[slice] = []
    start = 0
    while start < count:
        stop = min(start + size, count)
        while possible and stop < count and not does(slice(start, stop)):
            stop += 1
        found.append(slice(start, stop))
        start = stop
    while len(found) > 1 and not does(found[-1]):
        found[-2:] = [slice(found[-2].start, found[-1].stop)]
    return found


def enough(items: Sequence[Any], count: int, rule: str = "any") -> int:
    """Return how many of the first items, ``count`` or more, serve each other; ``count`` where none do."""
    for stop in range(count, min(len(items), count + 64) + 1):
        if all_served([case_of(item) for item in items[:stop]], rule):
            return stop
    return count


def draw_donors(allowed: np.ndarray, generator: torch.Generator) -> Tensor:
    """Draw who gives to each image of a batch, int64 [B]: a permutation where there is one; see the module.

    Args:
        allowed: who may give to whom, bool [B, B].
        generator: on the CPU.

    Raises:
        OptionError: an image has no donor.
    """
    count = len(allowed)
    if count < 2:
        raise OptionError(
            f"got a batch of {count}; shuffling needs at least 2 images, so that none keeps its own token"
        )
    _require_donors(allowed)
    still = np.arange(count)
    for _ in range(TRIES):
        drawn = torch.randperm(count, generator=generator)
        if allowed[still, drawn.numpy()].all():
            return drawn
    return _assigned(allowed, generator)


def draw_from_bank(allowed: np.ndarray, generator: torch.Generator) -> Tensor:
    """Draw a calibration image for each image of a batch, int64 [B], each permitted one equally likely.

    Args:
        allowed: who may give to whom, bool [B, M].
        generator: on the CPU.

    Raises:
        OptionError: an image has no donor.
    """
    _require_donors(allowed)
    return torch.multinomial(torch.from_numpy(allowed).double(), 1, generator=generator)[:, 0]


def _assigned(allowed: np.ndarray, generator: torch.Generator) -> Tensor:
    """Return an assignment of least random cost in which each gives once, or as few times as can be."""
    from scipy.optimize import linear_sum_assignment

    count = len(allowed)
    for times in range(1, count + 1):
        drawn = torch.rand(count, times * count, generator=generator, dtype=torch.float64).numpy()
        costs = np.where(np.tile(allowed, times), drawn, np.inf)
        try:
            return torch.from_numpy(linear_sum_assignment(costs)[1] % count)
        except ValueError:  # no such assignment
            continue
    raise AssertionError("each has a donor, so one that gives to all of its takers is enough")


def _require_donors(allowed: np.ndarray) -> None:
    lacking = int((~allowed.any(axis=1)).sum())
    if lacking:
        raise OptionError(
            f"{lacking} of {counted(len(allowed), 'image')} have no other image to take a token from: all "
            "at hand are of their own patient (group), or of their own class where donors must be of "
            "another; leave shuffle and resample out, take donors of any class (--donors any), or add "
            "images of others"
        )
