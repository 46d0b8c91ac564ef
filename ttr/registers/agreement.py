"""Do two rankings name the same register neurons? Of two image sets, two detections, or a published list.

Both are cut to the blocks that both allow. Rankings of a whole model are compared as a whole, too; lists of
some neurons at their heads alone. What one set of images says of itself, repeated halves of it
(:mod:`ttr.registers.split_halves`), is what to hold the overlap of two sets against.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ttr.errors import NeuronsError
from ttr.files import write_json, write_table
from ttr.registers.neurons import RegisterNeurons, SplitHalves
from ttr.statistics.rank_agreement import overlap, rank_biased_overlap, rank_correlations

#: Heads that are compared, besides what each keeps.
HEADS = (5, 10, 20, 50)
KEPT = "kept"


@dataclass(frozen=True)
class Agreement:
    """How far two rankings agree at one depth.

    Attributes:
        first, second: names of the two.
        top: how many of each are compared; ``"kept"``: those that each keeps.
        first_size, second_size: neurons of each.
        weights: ``same``, ``other``, or ``unknown`` where one of them does not say on which it was found.
            Neurons of other weights need not correspond, whatever p says.
        shared: neurons in both.
        overlap: their share of the smaller, 0..1.
        chance, p: what random neurons of the blocks share, and how often as many or more; None where the
            model's size is not known.
        rbo: rank-biased overlap of the two lists, 0..1.
        kendall, spearman: rank correlation over all neurons of the blocks; None without two whole rankings.
        within_first, within_second: overlap of halves of its own images at this depth, where measured.
    """

    first: str
    second: str
    top: int | str
    first_size: int
    second_size: int
    weights: str
    shared: int
    overlap: float
    chance: float | None
    p: float | None
    rbo: float
    kendall: float | None
    spearman: float | None
    within_first: SplitHalves | None
    within_second: SplitHalves | None


def agreements(sets: dict[str, RegisterNeurons], heads: Sequence[int] = HEADS) -> list[Agreement]:
    """Compare every two of the named sets: what they keep, then their heads of each depth.

    Raises:
        NeuronsError: fewer than two sets, sets of models of different sizes, or an empty one.
    """
    if len(sets) < 2:
        raise NeuronsError(f"got {len(sets)} register-neuron set; needed two or more to compare")
    found: list[Agreement] = []
    for first, second in combinations(sets, 2):
        found += _compared((first, second), (sets[first], sets[second]), heads)
    return found


def _compared(
    names: tuple[str, str], sets: tuple[RegisterNeurons, RegisterNeurons], heads: Sequence[int]
) -> list[Agreement]:
    blocks, width = _model(names, sets)
    allowed = [each.provenance.top_layer for each in sets if each.provenance.top_layer is not None]
    last = min(allowed, default=math.inf if blocks is None else blocks - 1)
    total = None if width is None or math.isinf(last) else (int(last) + 1) * width
    ranked = [[row for row in each.ranked if row[0] <= last] for each in sets]
    kept = [[pair for pair in each.kept if pair[0] <= last] for each in sets]
    kendall, spearman = _correlations(ranked, total)
    compared: list[tuple[int | str, list[list[tuple[int, int]]]]] = [(KEPT, kept)]
    depth = min(map(len, ranked))
    compared += [(k, [[row[:2] for row in rows[:k]] for rows in ranked]) for k in heads if k <= depth]
    made = []
    for top, (one, other) in compared:
        if not one or not other:
            continue
        shown = overlap(one, other, total)
        made.append(
            Agreement(
                first=names[0],
                second=names[1],
                top=top,
                first_size=len(one),
                second_size=len(other),
                weights=_weights(sets),
                shared=shown.shared,
                overlap=shown.share,
                chance=shown.chance,
                p=shown.p,
                rbo=rank_biased_overlap(one, other),
                kendall=kendall,
                spearman=spearman,
                within_first=_within(sets[0], len(one)),
                within_second=_within(sets[1], len(other)),
            )
        )
    if not made:
        empty = names[0] if not ranked[0] else names[1]
        raise NeuronsError(f"{empty} has no neurons in blocks 0..{last}; there is nothing to compare")
    return made


def _model(
    names: tuple[str, str], sets: tuple[RegisterNeurons, RegisterNeurons]
) -> tuple[int | None, int | None]:
    """Return blocks and neurons a block of the one model, None where neither says.

    Raises:
        NeuronsError: the sets are of models of different sizes.
    """
    each_of = ((each.provenance.num_layers, each.provenance.num_neurons) for each in sets)
    sizes = list(dict.fromkeys(size for size in each_of if size != (None, None)))
    if len(sizes) > 1:
        told = " and ".join(f"{blocks} blocks of {width} neurons" for blocks, width in sizes)
        raise NeuronsError(f"{names[0]} and {names[1]} are of {told}; needed sets of one model")
    return next(iter(sizes), (None, None))


def _weights(sets: tuple[RegisterNeurons, RegisterNeurons]) -> str:
    """Return whether two sets were found on the same weights."""
    hashes = {each.provenance.weights_hash for each in sets}
    return "unknown" if None in hashes else "same" if len(hashes) == 1 else "other"


def _correlations(
    ranked: Sequence[list[tuple[int, int, float]]], total: int | None
) -> tuple[float | None, float | None]:
    whole = total is not None and all(len(rows) == total for rows in ranked)
    if not whole or any(math.isnan(score) for rows in ranked for _, _, score in rows):
        return None, None
    columns = [np.array([score for _, _, score in sorted(rows)]) for rows in ranked]
    tau, rho = rank_correlations(*columns)
    return (None, None) if math.isnan(tau) else (tau, rho)


def _within(neurons: RegisterNeurons, size: int) -> SplitHalves | None:
    return next((each for each in neurons.provenance.split_halves or () if each.top == size), None)


def table(found: Sequence[Agreement]) -> list[dict[str, Any]]:
    """Return a flat row each: ``within_first``, ``within_first_low``, ``within_first_high``, ..."""
    rows = []
    for each in found:
        row = dict(vars(each))
        for name in ("within_first", "within_second"):
            halves: SplitHalves | None = row.pop(name)
            row[name] = halves and halves.overlap
            row[f"{name}_low"], row[f"{name}_high"] = halves and halves.low, halves and halves.high
        rows.append(row)
    return rows


def write_agreements(found: Sequence[Agreement], out: Path) -> None:
    """Write the rows as CSV, or as JSON where the name ends so.

    Raises:
        OutputError: ``out`` cannot be written.
    """
    if out.suffix == ".json":
        write_json(out, table(found))
        return
    import pandas as pd

    write_table(out, pd.DataFrame(table(found)))
