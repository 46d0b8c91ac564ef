"""From a race to rows: each candidate against the one that it is compared with."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.racing import Clock, Task, TooLongError, race, ratio
from tests.benchmarks.results import LeftOut, Measured, Row
from tests.benchmarks.settings import Settings

OUT_OF_TIME = "out of time; give more --minutes"


@dataclass(frozen=True)
class Against:
    """One comparison that a race is to yield."""

    what: str
    against: str
    target: float | None = None
    registers: int | None = None


def rows(
    settings: Settings,
    tasks: Mapping[str, Task],
    asked: list[Against],
    clock: Clock | None = None,
    *,
    peaks: Mapping[str, float] | None = None,
    starts: Mapping[str, str] | None = None,
    **common: Any,
) -> Iterator[Row]:
    """Race the tasks once and yield each comparison, or that the race would not fit.

    Args:
        settings: budget and seed.
        tasks: what runs, by name.
        asked: the comparisons.
        clock: None: that of forward passes.
        peaks: peak memory of the tasks in MiB, where it is known.
        starts: tasks whose time, in the same round, is taken off that of others, by these.
        common: fields that all rows share.
    """
    peaks, starts = peaks or {}, starts or {}
    where = " ".join(str(common[name]) for name in ("model", "dtype", "batch", "way") if name in common)
    if time.monotonic() > settings.until:
        yield LeftOut(case=common["case"], what=where, reason=OUT_OF_TIME)
        return
    try:
        times = race(tasks, clock or settings.pass_clock, settings.budget, settings.seed)
    except TooLongError as error:
        yield LeftOut(case=common["case"], what=where, reason=f"{error}; give more --seconds")
        return
    for name, start in starts.items():
        times[name] = [own - off for own, off in zip(times[name], times[start], strict=True)]
    for each in asked:
        own, other = times[each.what], times[each.against]
        by_throughput = common.get("of") == "throughput"
        found = ratio(other, own, settings.seed) if by_throughput else ratio(own, other, settings.seed)
        yield Measured(
            what=each.what,
            against=each.against,
            # A tiny model is all overhead, and no target is about it.
            target=None if common.get("model") == "tiny" else each.target,
            registers=each.registers,
            ratio=found.value,
            low=found.low,
            high=found.high,
            rounds=len(own),
            ms=1000 * statistics.median(own),
            against_ms=1000 * statistics.median(other),
            peak_mib=peaks.get(each.what),
            against_peak_mib=peaks.get(each.against),
            **common,
        )
