"""An integration as a section of a page: from ``integration.csv`` alone, so that any page can show it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ttr.analysis.faithfulness import LEVELS, Trust, grade, meaning
from ttr.drawing.html import fill
from ttr.studies.integrate.pictures import attention_by_model, curves

LATER = tuple(
    f"{name}{end}"
    for name in ("attended_cka", "attended_cosine", "share_without_cls")
    for end in ("", "_low", "_high")
)


def integration_section(table: pd.DataFrame) -> str:
    """Return the HTML section of an integration: curves over registers and blocks, shares, and the numbers.

    Args:
        table: as read from ``integration.csv`` (:mod:`ttr.studies.integrate.tables`); several files can be
            put one behind another to compare models.

    Returns:
        An HTML fragment with headings from ``h2`` on, figures as data URIs; it asks nothing of the network.
    """
    # Tables of earlier versions lack them.
    later = [name for name in LATER if name not in table]
    table = table.assign(**dict.fromkeys(later, float("nan")))
    models = [_model(name, rows) for name, rows in table.groupby("backbone", sort=False)]
    last = pd.concat(
        [rows[rows.block == rows.block.max()] for _, rows in table.groupby("backbone", sort=False)]
    )
    first = last[last.num_registers == last.num_registers.min()]
    return fill(
        "integration_section.html",
        models=models,
        attention=attention_by_model(first) if len(models) > 1 else "",
        fewest=int(first.num_registers.min()),
        rows=list(table.itertuples()),
        levels=LEVELS,
        nan=float("nan"),
        few=bool((table.images < table.dimensions).any()),
    )


def _model(name: str, rows: pd.DataFrame) -> dict[str, Any]:
    last = rows[rows.block == rows.block.max()]
    maps = last[last.part == "patches"].sort_values("num_registers")
    trusts = [Trust.of(row) for row in maps.itertuples()]
    fewest = rows[rows.num_registers == rows.num_registers.min()]
    return {
        "name": name,
        "block": int(rows.block.max()),
        "maps": [
            {"registers": m.num_registers, "row": m, "trust": trust, "grade": grade(trust)}
            for m, trust in zip(maps.itertuples(), trusts, strict=True)
        ],
        "meaning": meaning(trusts[0]),
        "by_registers": curves(last, "num_registers") if last.num_registers.nunique() > 1 else "",
        "by_block": curves(fewest, "block") if rows.block.nunique() > 1 else "",
        "fewest": int(rows.num_registers.min()),
    }
