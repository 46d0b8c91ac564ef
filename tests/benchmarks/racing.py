"""Two ways of doing the same, raced: rounds in balanced order, and the median of the rounds' own ratios.

A machine whose speed drifts slows both sides of a round alike, so a ratio is taken within its round. The
order within a round is drawn at random, and the next round runs it backwards: over each pair of rounds
everybody stands in the same place on average, and a drift that is linear in time cancels.

The interval is a percentile bootstrap over rounds (:func:`scipy.stats.bootstrap`), of 95 %.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Task = Callable[[], Any]
#: Seconds of one call, of so many calls in a row.
Clock = Callable[[Task, int], float]
RESAMPLES = 2000


class TooLongError(Exception):
    """The fewest rounds would not fit into the time."""


@dataclass(frozen=True)
class Budget:
    """How long a race may take.

    Attributes:
        seconds: of all rounds together; the fewest rounds may take four times that, never more.
        fewest: rounds that a ratio needs, an even number.
        most: rounds after which nothing is gained.
        sample: seconds that a single sample lasts at least; quick tasks are called that often in a row.
    """

    seconds: float = 10.0
    fewest: int = 6
    most: int = 40
    sample: float = 0.02


@dataclass(frozen=True)
class Ratio:
    """A median of ratios with its interval."""

    value: float
    low: float
    high: float


def wall_clock(synchronize: Callable[[], object] = lambda: None) -> Clock:
    """Return a clock for work on the host as well; the device is waited for at both ends alone."""
    return _of_host(time.perf_counter, synchronize)


def processor_clock() -> Clock:
    """Return a clock of this process's processor seconds, which waiting for others does not add to."""
    return _of_host(time.process_time, lambda: None)


def _of_host(now: Callable[[], float], synchronize: Callable[[], object]) -> Clock:
    def seconds(task: Task, calls: int) -> float:
        synchronize()
        start = now()
        for _ in range(calls):
            task()
        synchronize()
        return (now() - start) / calls

    return seconds


def event_clock(device: Any) -> Clock:
    """Return a clock of the GPU's own events, for what leaves nothing to the host."""
    import torch

    def seconds(task: Task, calls: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        start.record()
        for _ in range(calls):
            task()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000 / calls

    return seconds


def race(tasks: Mapping[str, Task], clock: Clock, budget: Budget, seed: int) -> dict[str, list[float]]:
    """Return seconds a call by task and round.

    Each task runs twice before the rounds: once cold, once to see how many rounds fit.

    Raises:
        TooLongError: the fewest rounds would take more than four times the budget's seconds.
    """
    cold = sum(clock(task, 1) for task in tasks.values())
    if cold > 20 * budget.seconds:
        raise TooLongError(f"one round takes {cold:.0f} s")
    once = {name: clock(task, 1) for name, task in tasks.items()}
    calls = max(1, round(budget.sample / max(min(once.values()), 1e-9)))
    a_round = calls * sum(once.values())
    if budget.fewest * a_round > 4 * budget.seconds:
        raise TooLongError(f"one round takes {a_round:.1f} s")
    pairs = int(np.clip(budget.seconds / max(a_round, 1e-9), budget.fewest, budget.most)) // 2
    order, names = np.random.default_rng(seed), list(tasks)
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(max(pairs, 1)):
        drawn = order.permutation(len(names))
        for turn in (drawn, drawn[::-1]):
            found = {names[index]: clock(tasks[names[index]], calls) for index in turn}
            for name in names:
                times[name].append(found[name])
    return times


def ratio(over: list[float], under: list[float], seed: int) -> Ratio:
    """Return the median of the rounds' ratios ``over / under`` with its 95 % bootstrap interval."""
    from scipy.stats import bootstrap

    ratios = np.asarray(over) / np.asarray(under)
    found = bootstrap(
        (ratios,),
        np.median,
        method="percentile",
        n_resamples=RESAMPLES,
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return Ratio(float(np.median(ratios)), float(found.low), float(found.high))
