"""What *How Register Tokens Reshape Information Flow in Vision Transformers* prints, read from our ablations.

That study replaces tokens at the output of the last block alone, the zero-ablation study at that of every
block, and their numbers therefore stand in tables of their own, though both print the same ones for zeroing.
Behind the last block there is no attention any more: whatever stands in a register there cannot reach CLS or
a patch, and every change of ``registers:...@last`` is exactly 0 here. So the drops that it prints cannot be
those of its own description.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from ttr.analysis.routing import GROUPS

STUDY = "register-flow"
#: Its ablations that have a number in its text, beside which zeroing and replacing CLS and registers stand.
CONDITIONS = ("registers:zero@last", "registers:mean@last", "register-2:zero@last", "cls:zero@last")
PROBE, COSINE = "token probe", "register cosine"
NAN = float("nan")
GENERALISTS = ("register-1", "register-3", "register-4")
Rows = list[Any]


def flow_numbers(folder: Path) -> Iterator[tuple[str, str, float, Any]]:
    """Yield (task, condition, number, the row that has its interval and n) from an ablation's folder.

    Tables that are not there give nothing. ``@`` names a block; of several rows the extreme one is given with
    its own interval, and a mean of several with none.
    """
    for row in read(folder, "geometry"):
        if (row.measure, row.condition) == ("effective_rank", "full"):
            yield "effective rank", "full", row.value, row
    yield from _attention(read(folder, "attention"))
    yield from _probes(read(folder, "probing"))
    yield from _cosines(read(folder, "registers"))


def is_shown(task: str, condition: str) -> bool:
    """Return whether a number is worth a row where none was published: probes of CLS and each register."""
    return task == PROBE and " of registers " not in condition


def _attention(rows: Rows) -> Iterator[tuple[str, str, float, Any]]:
    full = [row for row in rows if row.condition == "full"]
    for source in GROUPS:
        for target in dict.fromkeys(row.target for row in full):
            here = [row for row in full if (row.source, row.target) == (source, target)]
            for row in here:
                yield f"{source} to {target}", f"@{row.block}", row.share, row
            for name, extreme in _extremes(here, lambda row: row.share):
                yield f"{source} to {target}", f"{name} of the blocks", extreme.share, extreme


def _probes(rows: Rows) -> Iterator[tuple[str, str, float, Any]]:
    for row in rows:
        yield PROBE, f"{row.token} @{row.block}", row.accuracy, row
    for block in dict.fromkeys(row.block for row in rows):
        here = [row for row in rows if row.block == block and row.token in GENERALISTS]
        for name, extreme in _extremes(here, lambda row: row.accuracy):
            yield PROBE, f"{name} of registers 1, 3, 4 @{block}", extreme.accuracy, extreme


def _cosines(rows: Rows) -> Iterator[tuple[str, str, float, Any]]:
    others = [row for row in rows if row.first == "register-2" != row.second]
    if others:
        mean = sum(row.cosine for row in others) / len(others)
        yield COSINE, "register-2 to the others", mean, others[0]._replace(ci_low=NAN, ci_high=NAN)
    among = [row for row in rows if row.first < row.second and {row.first, row.second} <= {*GENERALISTS}]
    for name, extreme in _extremes(among, lambda row: row.cosine):
        yield COSINE, f"{name} among registers 1, 3, 4", extreme.cosine, extreme


def _extremes(rows: Rows, value: Callable[[Any], float]) -> Iterator[tuple[str, Any]]:
    if rows:
        yield "lowest", min(rows, key=value)
        yield "highest", max(rows, key=value)


def read(folder: Path, name: str) -> Rows:
    """Return the rows of a table of an ablation's folder, none where it is not there."""
    path = folder / f"{name}.csv"
    return list(pd.read_csv(path).itertuples()) if path.exists() else []
