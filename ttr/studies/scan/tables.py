"""The two tables of a scan: by block, and by model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from ttr.analysis.outliers import LARGEST, MEDIAN, SHARE
from ttr.statistics.estimates import share
from ttr.studies.scan.measure import Scanned
from ttr.studies.scan.remedy import Verdict, state_of


def by_block(scans: Sequence[Scanned]) -> pd.DataFrame:
    """Return one row a model, size and block: ``model, size, block, outlier_share, ci_low, ci_high``, ...

    ``median_norm`` and ``max_norm`` are the means over the images of an image's median and largest patch
    norm; ``n`` images, ``n_with`` of which have an outlier patch; ``state``: dirty, clean or open.
    """
    rows = []
    for scanned in scans:
        for block in range(scanned.blocks):
            here = scanned.values[:, block]
            found = share(here[:, SHARE])
            ends = found.interval()
            rows.append(
                {
                    "model": scanned.model,
                    "size": scanned.size,
                    "block": block,
                    "outlier_share": found.value,
                    "ci_low": ends.low,
                    "ci_high": ends.high,
                    "median_norm": float(here[:, MEDIAN].mean()),
                    "max_norm": float(here[:, LARGEST].mean()),
                    "n": scanned.images,
                    "n_with": int((here[:, SHARE] > 0).sum()),
                    "state": state_of(here[:, SHARE]),
                }
            )
    return pd.DataFrame(rows)


def by_model(found: Sequence[tuple[Scanned, Verdict]]) -> pd.DataFrame:
    """Return one row a model and size: ``model, size, registers, artifact_score, ci_low, ci_high``, ...

    ``first_block`` and ``last_block`` with outliers (empty without), ``n`` images, ``state`` (dirty, clean or
    open) and ``remedy``.
    """
    rows = [
        {
            "model": scanned.model,
            "size": scanned.size,
            "registers": scanned.registers,
            "artifact_score": said.score,
            "ci_low": said.interval.low,
            "ci_high": said.interval.high,
            "first_block": math.nan if said.first is None else said.first,
            "last_block": math.nan if said.last is None else said.last,
            "n": scanned.images,
            "state": said.state,
            "remedy": said.remedy,
        }
        for scanned, said in found
    ]
    return pd.DataFrame(rows).astype({"first_block": "Int64", "last_block": "Int64"})
