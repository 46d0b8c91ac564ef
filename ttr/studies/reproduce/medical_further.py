"""What the medical study published no number of: R registers, as many as classes, heads on registers.

Each question is a table of its own: pairs of heads on the same test images, their difference in top-1 with
interval, paired test and verdict, corrected over the table, a protocol each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ttr.backbones.base import Backbone
from ttr.datasets.registry import Dataset
from ttr.evaluate.metrics import metric
from ttr.registers.arms import PLAIN, Arm, arms
from ttr.registers.neurons import RegisterNeurons
from ttr.run import Run
from ttr.statistics.contrasts import Contrast
from ttr.statistics.inference import PERMUTATIONS
from ttr.statistics.verdict import judge_families
from ttr.studies.bench.benchmark import Benchmark, Outcome, run_benchmark
from ttr.studies.bench.differences import of_accuracy
from ttr.studies.bench.intervals import metric_interval
from ttr.studies.bench.settings import BenchmarkSettings

SEED = 42
OWN, REGISTERS, BOTH = "embedding", "test_time", "embedding+test_time"
#: {file: heading} of the tables.
TABLES = {
    "sweep": "How many registers",
    "registers_as_classes": "As many registers as classes",
    "from_registers": "Classification from registers",
}


@dataclass(frozen=True)
class Further:
    """What is asked beyond the published study.

    Attributes:
        sweep: numbers of registers R >= 0; 0 is the neurons zeroed without a register.
        registers_as_classes: whether R is the set's number of classes.
        from_registers: whether a head looks at the registers in place of CLS, and at both.
    """

    sweep: tuple[int, ...] = ()
    registers_as_classes: bool = False
    from_registers: bool = False


NOTHING_FURTHER = Further()


@dataclass(frozen=True, eq=False)
class Pair:
    """Two heads on the same test images: a row of a table, and its difference."""

    row: dict[str, Any]
    contrast: Contrast


@dataclass(frozen=True, eq=False)
class Cell:
    """One set, backbone and protocol: what its heads are trained on.

    Attributes:
        backbone: the bare backbone, as the protocol has it.
        dataset: the labelled set.
        neurons: its register neurons.
        registers: R of the study.
        run: how; its seed is the probe's.
    """

    backbone: Backbone
    dataset: Dataset
    neurons: RegisterNeurons
    registers: int
    run: Run

    def arms(self, counts: Iterable[int]) -> list[Arm]:
        """Return ``token`` and ``ttr`` for each number of registers, for none ``plain`` and ``neurons``."""
        made = [PLAIN, Arm("neurons", self.neurons, 0)] if 0 in (counts := sorted(set(counts))) else []
        for count in filter(None, counts):
            made += arms(("token", "ttr"), self.backbone, self.neurons, num_registers=count)
        return made

    def measured(self, counts: Iterable[int], features: tuple[str, ...]) -> Benchmark:
        """Return the linear heads of these arms on these features."""
        settings = BenchmarkSettings(heads=("linear",), features=features, seeds=(self.run.seed,))
        return run_benchmark(self.backbone, self.dataset, self.arms(counts), settings, self.run)


def ask(further: Further, cell: Cell) -> dict[str, list[Pair]]:
    """Return the pairs of each table that was asked for.

    Raises:
        TTRError: as :func:`ttr.studies.bench.benchmark.run_benchmark` does.
    """
    found: dict[str, list[Pair]] = {}
    classes = len(cell.dataset.classes)
    if further.sweep:
        # A number that was asked for twice is one test of the family.
        asked = sorted(set(further.sweep))
        bench = cell.measured(asked, (OWN,))
        sides = [("ttr", "token") if count else ("neurons", "plain") for count in asked]
        places = zip(asked, sides, strict=True)
        found["sweep"] = [
            _pair(bench, (first, count, OWN), (second, count, OWN)) for count, (first, second) in places
        ]
    if further.registers_as_classes:
        bench = cell.measured((classes, cell.registers), (OWN,))
        seconds = [("token", classes, OWN), ("ttr", cell.registers, OWN)]
        if classes == cell.registers:
            seconds.pop()
        found["registers_as_classes"] = [_pair(bench, ("ttr", classes, OWN), other) for other in seconds]
    if further.from_registers:
        bench = cell.measured((cell.registers,), (OWN, REGISTERS, BOTH))
        count = cell.registers
        found["from_registers"] = [
            _pair(bench, ("ttr", count, REGISTERS), ("ttr", count, OWN)),
            _pair(bench, ("ttr", count, BOTH), ("ttr", count, OWN)),
            _pair(bench, ("ttr", count, REGISTERS), ("token", count, REGISTERS)),
        ]
    return found


def as_table(pairs: Sequence[tuple[dict[str, str], Pair]]) -> pd.DataFrame:
    """Return pairs, each with its protocol, set and backbone, as a table with verdicts.

    Columns: protocol, dataset, backbone, metric, of the first and the second head arm, _registers,
    _feature, _value, _low and _high (95 %), then difference (first - second), ci_low, ci_high, p, n, and
    those of :class:`ttr.statistics.verdict.Judged`, within a protocol.
    """
    judged = judge_families([pair.contrast for _, pair in pairs], [place["protocol"] for place, _ in pairs])
    rows = zip(pairs, judged, strict=True)
    return pd.DataFrame({**place, **pair.row, **each.columns()} for (place, pair), each in rows)


def _pair(bench: Benchmark, first: tuple[str, int, str], second: tuple[str, int, str]) -> Pair:
    """Compare two heads, each an arm, a number of registers and a feature."""
    outcomes = [_outcome(bench, *place) for place in (first, second)]
    row: dict[str, Any] = {"metric": "top1"}
    for name, outcome in zip(("first", "second"), outcomes, strict=True):
        value = metric("top1", outcome.predictions).value
        interval = metric_interval("top1", value, outcome.predictions, bench.groups, None)
        row |= {
            name: outcome.arm.name,
            f"{name}_registers": outcome.arm.num_registers,
            f"{name}_feature": outcome.feature,
            f"{name}_value": value,
            f"{name}_low": interval.low,
            f"{name}_high": interval.high,
        }
    one, other = ([outcome.predictions] for outcome in outcomes)
    found = of_accuracy(one, other, bench.groups, PERMUTATIONS, SEED)
    row |= {"difference": found.value, "ci_low": found.interval.low, "ci_high": found.interval.high}
    return Pair({**row, "p": found.p, "n": found.n}, found)


def _outcome(bench: Benchmark, arm: str, registers: int, feature: str) -> Outcome:
    wanted = (arm, registers, feature, "linear")
    return next(o for o in bench.outcomes if (o.arm.name, o.arm.num_registers, o.feature, o.head) == wanted)
