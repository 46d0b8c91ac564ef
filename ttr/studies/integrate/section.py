"""An integration as a section of a page: from ``integration.csv`` alone, so that any page can show it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ttr.analysis.faithfulness import LEVELS, Trust, grade, meaning
from ttr.drawing.report import Fragment, fragment
from ttr.drawing.tables import Table, grouped, number, of, percent
from ttr.studies.integrate.by_model import parts_by_model
from ttr.studies.integrate.by_model_section import OPEN
from ttr.studies.integrate.charts import attention_by_model, parts_along

LATER = tuple(
    f"{name}{end}"
    for name in ("attended_cka", "attended_cosine", "share_without_cls")
    for end in ("", "_low", "_high")
)


def integration_section(table: pd.DataFrame) -> Fragment:
    """Return the section of an integration: curves over registers and blocks, shares, and the numbers.

    Args:
        table: as read from ``integration.csv`` (:mod:`ttr.studies.integrate.tables`); several files can be
            put one behind another to compare models.

    Returns:
        HTML with headings from ``h2`` on, and its charts; it asks nothing of the network.
    """
    # Tables of earlier versions lack them.
    later = [name for name in LATER if name not in table]
    table = table.assign(**dict.fromkeys(later, float("nan")))
    charts: dict[str, Any] = {}
    models = []
    for place, (name, rows) in enumerate(table.groupby("backbone", sort=False)):
        model, drawn = _model(name, rows, f"model-{place}")
        models.append(model)
        charts |= drawn
    first = at_the_end(table)
    first = first[first.num_registers == first.num_registers.min()]
    charts["attention"] = attention_by_model(first) if len(models) > 1 else None
    return fragment(
        "integration_section.html",
        charts,
        models=models,
        fewest=int(first.num_registers.min()),
        likeness=_likeness(table),
        attention=_attention(table),
        levels=LEVELS,
        few=bool((table.images < table.dimensions).any()),
    )


def at_the_end(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each model's last measured block."""
    return table[table.block == table.groupby("backbone").block.transform("max")]


def in_short(table: pd.DataFrame) -> str:
    """Return in one sentence how faithful the last block’s maps are, bare and with the fewest registers."""
    told = []
    for name, rows in at_the_end(table).groupby("backbone", sort=False):
        maps = rows[rows.part == "patches"].sort_values("num_registers").head(2)
        words = [
            f"{f'with R = {row.num_registers} ' if place else ''}{grade(Trust.of(row))} "
            f"({'' if place else 'faithfulness '}{_amount(row)})"
            for place, row in enumerate(maps.itertuples())
        ]
        told.append(f"the map of {name} is {', '.join(words)}")
    return f"in the last block {'; '.join(told)}"


def _amount(row: Any) -> str:
    found = number(Trust.of(row).amount, "{:.2f}", row.centred_low, row.centred_high)
    return f"{found.text} {found.around}".rstrip()


def maps_by_model(table: pd.DataFrame) -> Any:
    """Draw the faithfulness of the last block's map, a row a model and R, with its 95 % interval."""
    ends = ("centred", "centred_low", "centred_high")
    last = at_the_end(table)
    plain = last.centred.isna().all()
    return parts_by_model(
        last,
        ["patches"],
        ("cosine", "cosine_low", "cosine_high") if plain else ends,
        "plain cosine of the patches’ feature" if plain else "faithfulness of the map (centred cosine)",
        quantity="plain cosine" if plain else "faithfulness",
    )


def _model(name: str, rows: pd.DataFrame, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what is said of a model, and its charts."""
    last = rows[rows.block == rows.block.max()]
    maps = last[last.part == "patches"].sort_values("num_registers")
    trusts = [Trust.of(row) for row in maps.itertuples()]
    fewest = rows[rows.num_registers == rows.num_registers.min()]
    charts = {}
    for quantity in ("centred", "cka"):
        if last.num_registers.nunique() > 1:
            charts[f"{key}-registers-{quantity}"] = parts_along(last, "num_registers", quantity)
        if rows.block.nunique() > 1:
            charts[f"{key}-blocks-{quantity}"] = parts_along(fewest, "block", quantity)
    said = {
        "key": key,
        "name": name,
        "block": int(rows.block.max()),
        "maps": [
            {"registers": m.num_registers, "row": m, "trust": trust, "grade": grade(trust)}
            for m, trust in zip(maps.itertuples(), trusts, strict=True)
        ],
        "meaning": meaning(trusts[0]),
        "fewest": int(rows.num_registers.min()),
    }
    return said, charts


def _place(row: dict[str, Any]) -> str:
    return f"{row['backbone']}, R = {row['num_registers']}"


def _part(row: dict[str, Any]) -> str:
    return f"block {row['block']}, {row['part']}"


def _likeness(table: pd.DataFrame) -> Table:
    """Return how like the whole feature each part's is, grouped by model and R."""
    return Table(
        "How like the whole feature one part’s is, with 95 % intervals over images. Centred: cosine less "
        "the means. Null: plain cosine with what the part of other images makes. Own: share of these that "
        "fit less.",
        ("part", "CKA", "cosine", "centred", "null", "own", "agreement", "deletion"),
        grouped(
            table.to_dict("records"),
            _place,
            lambda row: [
                _part(row),
                of(row, "cka", "{:.3f}", ("ci_low", "ci_high")),
                *(
                    of(row, name, "{:.3f}")
                    for name in ("cosine", "centred", "null", "own", "agreement", "deletion")
                ),
            ],
        ),
        folded=len(table) > OPEN,
    )


def _attention(table: pd.DataFrame) -> Table:
    """Return what attention gives CLS of each part, grouped by model and R."""
    return Table(
        "What attention gives CLS of a part, with 95 % intervals over images. Attended: with what it "
        "gives of all tokens. Attention: of CLS to the part; of two: of that to patches and registers "
        "together. Norm: length of the part’s contribution to CLS in that block.",
        ("part", "attended CKA", "attended cosine", "attention, %", "of two, %", "norm"),
        grouped(
            table.to_dict("records"),
            _place,
            lambda row: [
                _part(row),
                *(of(row, name, "{:.3f}") for name in ("attended_cka", "attended_cosine")),
                percent(row["attention_share"]),
                percent(*(row[f"share_without_cls{end}"] for end in ("", "_low", "_high"))),
                of(row, "norm", "{:.2f}"),
            ],
        ),
        folded=len(table) > OPEN,
    )
