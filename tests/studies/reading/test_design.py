"""Who sees what when: balanced, in another random order for each reader, and the same from the same seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from ttr.studies.reading.design import doubles, plan, williams
from ttr.studies.reading.settings import AFTER, BEFORE, CONDITIONS, ReadingSettings


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_each_condition_stands_in_each_place_and_follows_each_other_equally_often(count):
    sequences = williams(count)
    assert all(sorted(row) == list(range(count)) for row in sequences)
    for place in range(count):
        assert set(Counter(row[place] for row in sequences).values()) == {len(sequences) // count}
    follows = Counter(pair for row in sequences for pair in pairwise(row))
    assert len(follows) == count * (count - 1)
    assert len(set(follows.values())) <= 1


@pytest.fixture(scope="module")
def trials():
    return plan(12, ReadingSettings(readers=6, catch=0.25, repeats=0.25), 3)


def test_every_reader_reads_every_image_in_every_condition_once_a_session(trials):
    for number in range(1, 7):
        reads = [t for t in trials if t.reader == f"R{number}" and t.kind == "read"]
        assert Counter((t.case, t.condition) for t in reads) == Counter(
            (case, condition) for case in range(12) for condition in CONDITIONS
        )
        assert set(Counter((t.case, t.session) for t in reads).values()) == {1}
        assert set(Counter((t.session, t.condition) for t in reads).values()) == {4}


def test_over_six_readers_each_image_has_each_sequence_once(trials):
    for case in range(12):
        reads = [t for t in trials if t.case == case and t.kind == "read"]
        ways = Counter(
            tuple(
                t.condition for t in sorted((t for t in reads if t.reader == reader), key=lambda t: t.session)
            )
            for reader in {t.reader for t in reads}
        )
        assert len(ways) == 6


def test_what_comes_twice_in_a_session_comes_in_either_half(trials):
    again = [t for t in trials if t.kind in ("catch", "repeat")]
    assert Counter(t.kind for t in again) == {"catch": 18, "repeat": 18}
    for twin in again:
        own = next(t for t in trials if (t.reader, t.session, t.case, t.kind) == (*twin_key(twin), "read"))
        reads = [
            t for t in trials if (t.reader, t.session) == (twin.reader, twin.session) and t.kind != "pair"
        ]
        middle = len(reads) / 2
        assert (own.position <= middle) != (twin.position <= middle)
        assert twin.kind == "catch" or twin.condition == own.condition
    twice = doubles(12, ReadingSettings(catch=0.25, repeats=0.25), 3)
    assert not set(twice.catch) & set(twice.repeats)


def twin_key(trial):
    return trial.reader, trial.session, trial.case


def test_pairs_end_the_last_session_and_either_map_is_left_as_often_whatever_came_first(trials):
    for reader in {t.reader for t in trials}:
        own = [t for t in trials if t.reader == reader]
        assert [t.kind for t in own[-12:]] == ["pair"] * 12
        first = {
            t.case: t.condition for t in reversed(own) if t.kind == "read" and t.condition in (BEFORE, AFTER)
        }
        sides = Counter((first[t.case], t.left) for t in own if t.kind == "pair")
        assert set(sides.values()) == {3}
    assert not any(t.kind == "pair" for t in plan(4, ReadingSettings(pairs=False), 0))


def test_orders_follow_from_the_seed_and_names_do_not():
    settings = ReadingSettings(readers=2)
    first, again, other = (plan(8, settings, seed) for seed in (1, 1, 2))
    assert [replace(t, trial="") for t in first] == [replace(t, trial="") for t in again]
    assert [t.case for t in first] != [t.case for t in other]
    assert not {t.trial for t in first} & {t.trial for t in again}
    orders = [[t.case for t in first if t.reader == reader] for reader in ("R1", "R2")]
    assert orders[0] != orders[1]
