"""Several processes of one run in this process: each goes on up to where it waits for another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import pytest

from ttr.features import prepared, sharing, trained
from ttr.ranks import Rank

T = TypeVar("T")
#: Steps at most of what is run so.
MOST = 12


class Waits(BaseException):
    """A rank would wait for another; no error, which a command would answer."""


def in_turns(monkeypatch: pytest.MonkeyPatch, process: Callable[[Rank], T], order: Sequence[int]) -> list[T]:
    """Return what each rank returns, in that order, when none has to wait any more.

    A rank that waits is begun anew at its next turn, as after a kill: what it did is in the cache.
    """

    def arrive(missing: Callable[[], int], *_: object) -> None:
        if missing():
            raise Waits

    for module in (sharing, prepared, trained):
        monkeypatch.setattr(module, "arrive", arrive)
    returned: dict[int, T] = {}
    for _ in range(MOST):
        for index in order:
            if index not in returned:
                with suppress(Waits):
                    returned[index] = process(Rank(index, len(order)))
        if len(returned) == len(order):
            return [returned[index] for index in order]
    raise AssertionError(f"ranks wait for each other forever; those that ended: {sorted(returned)}")
