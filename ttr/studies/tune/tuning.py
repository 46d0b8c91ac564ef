"""How many neurons, up to which block, and how many registers: swept and measured, not guessed.

Jiang et al. (2025, arXiv 2506.08010) choose by raising ``top_k`` until the outliers are gone.
``sweep_neurons`` does that for several top layers at once and measures, at the outlier layer,

    share_i = outlier patches of image i / its patches,      remaining = mean_i share_i / mean_i bare share_i.

``recommend`` keeps the fewest neurons, then the lowest top layer, with which the outliers have vanished: the
upper end of the 95 % interval of ``remaining`` is at most a stated tolerance. Where only the share itself is,
the images are too few to say so: with no outlier left in n images the upper end is z^2 / (n + z^2), so that
5 % take 73 of them. Taking the upper end guards against a setting that is best by luck, and so does
:func:`split`: neurons are found on some images and measured on others. ``sweep_registers`` then varies the
number R of registers and asks how far the embedding strays from the one at R = 1.
:mod:`ttr.studies.tune.sweep` does the passes and the intervals.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.errors import OptionError
from ttr.registers.detection import DetectionRule
from ttr.registers.neurons import RegisterNeurons
from ttr.registers.variants import ALGORITHM, Variant
from ttr.registers.wrap import TestTimeRegisters
from ttr.run import Run
from ttr.statistics.estimates import CONFIDENCE
from ttr.statistics.score_intervals import critical
from ttr.studies.tune.settings import REGISTERS, TOLERANCE, ascending, check_tolerance
from ttr.studies.tune.sweep import ATTENTION, NORM, Samples, sweep
from ttr.wording import counted

SMALLEST_SPLIT = 4
Status = Literal["vanished", "too few images", "remain", "no outliers"]


@dataclass(frozen=True)
class SweepRow:
    """One setting, measured. ``_low`` and ``_high`` are the ends of its 95 % interval.

    Attributes:
        sweep: ``"bare"`` model, ``"neurons"`` (top_k and top layer vary) or ``"registers"`` (R varies).
        top_layer: last block from which neurons were taken.
        top_k: how many of the ranking were asked for.
        neurons: how many there were.
        num_registers: R, test-time registers.
        outlier_share: outlier patches over all patches, 0..1, mean over the images.
        remaining: ``outlier_share`` over that of the bare model; None where that is 0.
        max_patch_norm: largest patch norm at the outlier layer, mean over the images.
        register_attention: CLS attention held by all registers, last block, 0..1 (sweep ``"registers"``, and
            a model with CLS).
        cosine: cosine of the embedding with the one at R = 1, mean over the images (sweep ``"registers"``).
    """

    sweep: Literal["bare", "neurons", "registers"]
    top_layer: int | None
    top_k: int | None
    neurons: int
    num_registers: int
    outlier_share: float
    outlier_share_low: float
    outlier_share_high: float
    remaining: float | None
    remaining_low: float | None
    remaining_high: float | None
    max_patch_norm: float
    register_attention: float | None = None
    cosine: float | None = None
    cosine_low: float | None = None
    cosine_high: float | None = None


@dataclass(frozen=True)
class Recommendation:
    """What the sweep over neurons advises.

    Attributes:
        status: ``"vanished"``; ``"too few images"`` (they have, as far as these images show, which is not far
            enough); ``"remain"`` (no setting was enough, the best is kept); ``"no outliers"`` (the
            bare model has none, the set is empty).
        neurons: the register neurons to use; its message is the advice in words.
        row: the chosen setting, None without outliers.
    """

    status: Status
    neurons: RegisterNeurons
    row: SweepRow | None


def split(images: int, *, seed: int) -> tuple[list[int], list[int]]:
    """Return the indices to find neurons on and those to measure on: random halves of 0..images-1.

    Fewer than 4 images are too few to part: both halves are then all of them.
    """
    if images < SMALLEST_SPLIT:
        return list(range(images)), list(range(images))
    order = random.Random(seed).sample(range(images), images)
    return sorted(order[: images // 2]), sorted(order[images // 2 :])


def default_top_k(neurons: RegisterNeurons, limit: int = 100) -> list[int]:
    """Return 1, 2, 5, 10, 20, 50, ... up to ``limit``, and 0.8, 1 and 1.25 times the kept number.

    None exceeds the length of the ranking.
    """
    ladder = {step * 10**power for power in range(len(str(limit))) for step in (1, 2, 5)}
    around = {round(factor * len(neurons)) for factor in (0.8, 1, 1.25)}
    return sorted(k for k in {k for k in ladder if k <= limit} | around if 1 <= k <= len(neurons.ranked))


def default_top_layers(neurons: RegisterNeurons, outlier_layer: int) -> list[int]:
    """Return the block where the outliers emerge (the set's own top layer) and those two below and above."""
    kept = max((layer for layer, _ in neurons.kept), default=outlier_layer)
    emergence = kept if neurons.provenance.top_layer is None else neurons.provenance.top_layer
    return sorted({min(max(emergence + step, 0), outlier_layer) for step in (-2, 0, 2)})


def sweep_neurons(
    backbone: Backbone,
    neurons: RegisterNeurons,
    images: Tensor | Iterable[Any],
    *,
    top_k: Sequence[int],
    top_layers: Sequence[int],
    num_registers: int = 1,
    variant: Variant = ALGORITHM,
    rule: DetectionRule | None = None,
    run: Run | None = None,
) -> list[SweepRow]:
    """Measure the bare model, then every (top layer, top_k) of the ranking with ``num_registers`` registers.

    Args:
        backbone: the bare backbone.
        neurons: a ranking; ``top(k, top_layer)`` gives each set. Equal sets are run once.
        images: a tensor [N, 3, H, W], or an iterable of PIL images or tensors; not those of the ranking.
        top_k: numbers of neurons, at least 1.
        top_layers: last blocks; negative ones count from the last block.
        num_registers: R >= 0.
        variant: how the neurons are moved, see :mod:`ttr.registers.variants`.
        rule: what an outlier is; None: the default of detection.
        run: batch size, seed and progress; None: the default, in batches of 8.

    Raises:
        OptionError: a list is empty, or a value is outside its range.
        ImageError: there are no images.
        ModelError: there is no such block.
    """
    counts = ascending("top_k", list(top_k), 1)
    if counts[-1] > len(neurons.ranked):
        raise OptionError(
            f"top_k={counts[-1]}, but the ranking holds {counted(len(neurons.ranked), 'neuron')}; give 1 "
            "to that number"
        )
    if not top_layers:
        raise OptionError("the list of top_layers is empty; give at least one block")
    blocks = sorted({backbone.layer(block, "top_layer") for block in top_layers})
    grid = [(block, k, neurons.top(k, block)) for block in blocks for k in counts]
    sets = {frozenset(chosen.kept): chosen for _, _, chosen in grid}
    options: dict[str, Any] = {"num_registers": num_registers, "variant": variant}
    wraps = [TestTimeRegisters(backbone, each, **options) for each in sets.values()]
    samples = sweep(backbone, wraps, images, rule, run)
    runs = {kept: run for run, kept in enumerate(sets, start=1)}
    rows = [SweepRow("bare", None, None, 0, 0, **_outliers(samples, 0))]
    for block, k, chosen in grid:
        measured = _outliers(samples, runs[frozenset(chosen.kept)])
        rows.append(SweepRow("neurons", block, k, len(chosen), num_registers, **measured))
    return rows


def sweep_registers(
    backbone: Backbone,
    neurons: RegisterNeurons,
    images: Tensor | Iterable[Any],
    *,
    num_registers: Sequence[int] = REGISTERS,
    variant: Variant = ALGORITHM,
    rule: DetectionRule | None = None,
    run: Run | None = None,
) -> list[SweepRow]:
    """Measure every number R of registers for one set of neurons; R = 1 is run as the reference in any case.

    Arguments and errors as for :func:`sweep_neurons`. Returns one row for each R, ascending.
    """
    counts = ascending("num_registers", list(num_registers), 0)
    order = [1, *(number for number in counts if number != 1)]
    wraps = [TestTimeRegisters(backbone, neurons, num_registers=n, variant=variant) for n in order]
    samples = sweep(backbone, wraps, images, rule, run)
    rows = []
    for number in counts:
        place = 1 + order.index(number)
        cosine = samples.cosine(place)
        rows.append(
            SweepRow(
                "registers",
                neurons.provenance.top_layer,
                len(neurons),
                len(neurons),
                number,
                **_outliers(samples, place),
                register_attention=samples.mean(place, ATTENTION) if backbone.layout.cls else None,
                cosine=cosine.mean,
                cosine_low=cosine.low,
                cosine_high=cosine.high,
            )
        )
    return rows


def recommend(
    rows: Sequence[SweepRow], neurons: RegisterNeurons, tolerance: float = TOLERANCE
) -> Recommendation:
    """Choose among the rows of :func:`sweep_neurons`: fewest neurons, then lowest top layer, outliers gone.

    Args:
        rows: the bare row and those of the sweep.
        neurons: the ranking that was swept.
        tolerance: outliers have vanished if the upper end of the interval of ``remaining`` is at most this.

    Raises:
        OptionError: the tolerance is not in 0..1.
    """
    check_tolerance(tolerance)
    if rows[0].outlier_share == 0:
        message = "no outlier patches in the bare model: there is nothing to move"
        return Recommendation("no outliers", replace(neurons.top(0), message=message), None)
    swept = [row for row in rows if row.sweep == "neurons"]
    gone = [row for row in swept if row.remaining_high is not None and row.remaining_high <= tolerance]
    seem = [row for row in swept if row.remaining is not None and row.remaining <= tolerance]
    if gone or seem:
        row = min(gone or seem, key=lambda row: (row.top_k, row.top_layer))
    else:
        row = min(swept, key=lambda row: (row.remaining, row.top_k, row.top_layer))
    message = (
        f"with {counted(row.neurons, 'neuron')} of blocks 0..{row.top_layer} moved there remain "
        f"{_percent(row.remaining)} of the outlier patches (95 % interval {_percent(row.remaining_low)} to "
        f"{_percent(row.remaining_high)})"
    )
    if seem and not gone:
        message += (
            "; these images are too few to show that outliers vanish to "
            f"{_percent(tolerance)}{_enough(tolerance)}"
        )
    elif not gone:
        message += (
            f"; no setting makes the outliers vanish to {_percent(tolerance)}, this is the best of them"
        )
    chosen = neurons.top(row.top_k or 0, row.top_layer)
    status: Status = "vanished" if gone else "too few images" if seem else "remain"
    return Recommendation(status, replace(chosen, message=message), row)


def _percent(share: float | None) -> str:
    return "an unknown share" if share is None else f"{100 * share:.1f} %"


def _enough(tolerance: float) -> str:
    """Return with how many images without a single outlier the upper end of Wilson's interval would do."""
    if not tolerance:
        return ""
    images = math.ceil(critical(CONFIDENCE, math.inf) ** 2 * (1 / tolerance - 1))
    return f" (without any left, {images} would do)"


def _outliers(samples: Samples, run: int) -> dict[str, Any]:
    share, rest = samples.share(run), samples.remaining(run)
    return {
        "outlier_share": share.mean,
        "outlier_share_low": share.low,
        "outlier_share_high": share.high,
        "remaining": rest and rest.mean,
        "remaining_low": rest and rest.low,
        "remaining_high": rest and rest.high,
        "max_patch_norm": samples.mean(run, NORM),
    }
