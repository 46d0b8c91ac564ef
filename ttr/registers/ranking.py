"""A ranking of neurons that is held as three arrays, and reads like a tuple of (block, neuron, score).

A model has a hundred thousand neurons, and few of a ranking's rows are ever looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np

from ttr.wording import counted

Row = tuple[int, int, float]
#: Rows that are made at once.
PIECE = 1024


class Ranking(Sequence[Row]):
    """Rows (block, neuron, score), best first. It is equal to a tuple of the same rows."""

    def __init__(self, layers: np.ndarray, neurons: np.ndarray, scores: np.ndarray) -> None:
        self._columns = (layers.astype(np.int64), neurons.astype(np.int64), scores.astype(np.float64))

    @classmethod
    def of_scores(cls, scores: np.ndarray) -> Ranking:
        """Return all neurons of scores [blocks, neurons], best first; equal ones by block and neuron."""
        flat = scores.reshape(-1)
        order = np.argsort(-flat, kind="stable")
        return cls(*np.divmod(order, scores.shape[1]), flat[order])

    def pairs_where(self, chosen: np.ndarray) -> list[tuple[int, int]]:
        """Return the pairs (block, neuron) that are marked in a bool [blocks, neurons], best first."""
        layers, neurons, _ = self._columns
        places = np.flatnonzero(chosen[layers, neurons])
        return list(zip(layers[places].tolist(), neurons[places].tolist(), strict=True))

    def __len__(self) -> int:
        return len(self._columns[0])

    def __iter__(self) -> Iterator[Row]:
        # In pieces: who looks for the best few stops early.
        for first in range(0, len(self), PIECE):
            layers, neurons, scores = (column[first : first + PIECE].tolist() for column in self._columns)
            yield from zip(layers, neurons, map(_named, scores), strict=True)

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Row, ...]: ...

    def __getitem__(self, place: int | slice) -> Row | tuple[Row, ...]:
        if isinstance(place, slice):
            return tuple(Ranking(*(column[place] for column in self._columns)))
        layer, neuron, score = (column[place].item() for column in self._columns)
        return layer, neuron, _named(score)

    def __eq__(self, other: Any) -> bool:
        if isinstance(other, Ranking):
            pairs = zip(self._columns, other._columns, strict=True)
            return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)
        return tuple(self) == other if isinstance(other, tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Ranking of {counted(len(self), 'neuron')}"


def _named(score: float) -> float:
    """Return a score; one that is not a number as this very one, so that rows are equal."""
    return math.nan if math.isnan(score) else score
