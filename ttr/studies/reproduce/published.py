"""Numbers that others published, as data (``published_results.json``), to stand beside measured ones.

One study an entry: where the numbers stand, what tells them apart (``keys``), the numbers, the settings that
they were got with, and what one must know before comparing. A published number is never computed with, only
printed, in a column of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ttr.errors import OptionError

FILE = Path(__file__).resolve().parent / "published_results.json"


@dataclass(frozen=True)
class ModelTest:
    """A published test of two models' effects against each other.

    Attributes:
        question: what it asks.
        pairs: the models; several where the study does not say which.
        condition: the ablation whose effect is compared.
        tasks: on which tasks; several where the study does not say which.
        p: as it was published, ``< 0.001`` or a number.
    """

    question: str
    pairs: tuple[tuple[str, str], ...]
    condition: str
    tasks: tuple[str, ...]
    p: str


@dataclass(frozen=True)
class PublishedStudy:
    """The numbers of one study.

    Attributes:
        name: its key in the file, the name of its command: ``ttr reproduce NAME``.
        source: authors, year, title, and the tables.
        keys: what tells its numbers apart, such as ``("backbone", "dataset", "arm")``.
        values: {a value of each key: the number}, in the file's order.
        settings: what they were got with, by name.
        notes: what one must know before comparing, a sentence or two each.
        metric: name of what was measured, where it is the same for all numbers; else empty.
        shares: whether its numbers are shares, 0..1, which people read in per cent.
        no_shares: values of its keys whose numbers are none.
        tests: of models against each other.
    """

    name: str
    source: str
    keys: tuple[str, ...]
    values: Mapping[tuple[str, ...], float] = field(repr=False)
    settings: Mapping[str, Any] = field(repr=False)
    notes: tuple[str, ...] = field(repr=False)
    metric: str = ""
    shares: bool = True
    no_shares: tuple[str, ...] = ()
    tests: tuple[ModelTest, ...] = ()

    def value(self, **place: str) -> float | None:
        """Return the number at a place, every key given, or None if none was published there.

        Raises:
            OptionError: the place has other keys.
        """
        if set(place) != set(self.keys):
            raise OptionError(f"{self.name} has numbers by {', '.join(self.keys)}; got {', '.join(place)}")
        return self.values.get(tuple(place[key] for key in self.keys))

    def is_share(self, place: Mapping[str, Any]) -> bool:
        """Return whether the number at a place, a value of each key, is a share or a change of one."""
        return self.shares and not any(place[key] in self.no_shares for key in self.keys)

    def named(self, key: str) -> tuple[str, ...]:
        """Return the values that a key has, each once, in the file's order."""
        column = self.keys.index(key)
        return tuple(dict.fromkeys(place[column] for place in self.values))


@cache
def published_studies() -> dict[str, PublishedStudy]:
    """Return the studies, {name: study}, in the file's order."""
    found = {}
    for name, entry in json.loads(FILE.read_text(encoding="utf-8")).items():
        values = {tuple(row[:-1]): float(row[-1]) for row in entry["values"]}
        found[name] = PublishedStudy(
            name=name,
            source=entry["source"],
            keys=tuple(entry["keys"]),
            values=values,
            settings=entry["settings"],
            notes=tuple(entry["notes"]),
            metric=entry.get("metric", ""),
            shares=entry.get("shares", True),
            no_shares=tuple(entry.get("no_shares", ())),
            tests=tuple(_test(**test) for test in entry.get("tests", ())),
        )
    return found


def _test(question: str, pairs: list[list[str]], condition: str, tasks: list[str], p: str) -> ModelTest:
    return ModelTest(question, tuple((first, second) for first, second in pairs), condition, tuple(tasks), p)
