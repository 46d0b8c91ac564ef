"""What a benchmark measures, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ttr.checks import integer, integers, names, register_counts
from ttr.errors import OptionError
from ttr.evaluate.head_names import NAMES as HEADS
from ttr.forward.preprocessing import check_steps
from ttr.registers.arm_names import DEFAULT, NAMES
from ttr.registers.variants import ALGORITHM, Variant, check_variant
from ttr.run import Run
from ttr.statistics.verdict import MARGIN, check_margin

FEATURES = ("embedding", "cls", "patches", "registers", "test_time")


@dataclass(frozen=True)
class BenchmarkSettings:
    """What a benchmark measures.

    Attributes:
        arms: of :data:`ttr.registers.arm_names.NAMES`.
        num_registers: values of R for the arms with tokens.
        heads: of :data:`ttr.evaluate.head_names.NAMES`.
        features: what to classify from: of :data:`FEATURES`, or several joined with ``+``, such as
            ``cls+test_time``.
        seeds: of the linear probe; None: that of the run and the two after it. The first one is also that of
            samples and of the random arms.
        draws: of the random arms.
        steps: optional preprocessing, see :mod:`ttr.forward.preprocessing`.
        variant: how the neurons are moved, see :mod:`ttr.registers.variants`.
        margin: of equivalence, a share: arms that differ by less count as equivalent, once that is shown.

    Raises:
        OptionError: an unknown arm, head, feature or step, or nothing where something is needed.
    """

    arms: tuple[str, ...] = DEFAULT
    num_registers: tuple[int, ...] = (1,)
    heads: tuple[str, ...] = HEADS
    features: tuple[str, ...] = ("embedding",)
    seeds: tuple[int, ...] | None = None
    draws: int = 3
    steps: tuple[str, ...] = ()
    margin: float = MARGIN
    variant: Variant = ALGORITHM

    def __post_init__(self) -> None:
        names("arms", self.arms, NAMES)
        check_variant(self.variant)
        check_steps(self.steps)
        names("heads", self.heads, HEADS)
        _check_features(self.features)
        if self.seeds is not None and len(set(integers("seeds", self.seeds, 0))) != len(self.seeds):
            raise OptionError(f"seeds {', '.join(map(str, self.seeds))}; needed one or more, each once")
        register_counts(self.num_registers, 1)
        integer("draws", self.draws, 1)
        check_margin(self.margin)


def one_seed(settings: BenchmarkSettings, run: Run) -> tuple[tuple[int, ...], Run]:
    """Return the seeds of the linear probe, and the run with the first of them as its own."""
    seeds = settings.seeds or (run.seed, run.seed + 1, run.seed + 2)
    return seeds, replace(run, seed=seeds[0])


def _check_features(features: tuple[str, ...]) -> None:
    if isinstance(features, str):
        raise OptionError(f"features={features!r}; needed a list of {', '.join(FEATURES)}")
    parts = [part for feature in features for part in feature.split("+")]
    if not parts or any(part not in FEATURES for part in parts):
        known = ", ".join(FEATURES)
        raise OptionError(f"features {', '.join(features) or 'none'}; needed {known}, or several joined by +")
