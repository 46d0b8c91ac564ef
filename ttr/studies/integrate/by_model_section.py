"""The figures of Lappe and Giese (2025) as a section of a page, for any number of models."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from ttr.drawing.html import fill
from ttr.studies.integrate.by_model import (
    at_last,
    dimensions_by_model,
    parts_by_model,
    shares_by_model,
)
from ttr.studies.integrate.oneshot_table import ATTENTION, OUTPUT
from ttr.studies.integrate.pictures import cls_path
from ttr.wording import counted

#: What one-shot accuracies are drawn of.
PARTS = {ATTENTION: ["full", "patches", "registers"], OUTPUT: ["full", "patches", "registers", "skip"]}


def by_model_section(tables: Mapping[str, pd.DataFrame]) -> str:
    """Return an HTML fragment with headings from ``h2`` on, figures as data URIs.

    Args:
        tables: ``integration``, ``oneshot``, ``layers``, ``registers``, ``dimensions`` and ``shares`` of
            :mod:`ttr.studies.integrate.tables` and :mod:`ttr.studies.integrate.token_tables`.
    """
    order = tables["integration"].sort_values("parameters", kind="stable").backbone.drop_duplicates().tolist()
    last, oneshot = (at_last(tables[name], order) for name in ("integration", "oneshot"))
    with_registers = last.groupby(["backbone", "num_registers"]).part.transform(
        lambda p: "registers" in set(p)
    )
    shares, bare = tables["shares"], last[~with_registers.astype(bool)]
    top = int(oneshot.top[oneshot.accuracy.notna() | (oneshot.top == oneshot.top.min())].max())
    ends = {name: (name, f"{name}_low", f"{name}_high") for name in ("attended_cka", "norm")}
    published = ["patches", "registers"]
    return fill(
        "integration_by_model.html",
        counted=counted,
        shares=shares_by_model(at_last(shares, order), order) if len(shares) else "",
        without_registers=[name for name in order if name not in set(shares.backbone)],
        dimensions=dimensions_by_model(tables["dimensions"], order),
        attended=parts_by_model(
            last[with_registers.astype(bool)], published, ends["attended_cka"], "CKA of attention outputs"
        ),
        oneshot={of: _oneshot(oneshot[(oneshot.of == of) & (oneshot.top == top)], of, top) for of in PARTS},
        top=top,
        cannot_fail=sorted(set(oneshot.missing) - {""}),
        oneshots=list(oneshot.itertuples()),
        norms=parts_by_model(last, ["patches", "skip"], ends["norm"], "length of the contribution to CLS"),
        path=cls_path(tables["layers"]),
        output=parts_by_model(
            bare, ["patches", "skip"], ("cka", "ci_low", "ci_high"), "CKA with the model’s output"
        ),
        registers=list(tables["registers"].itertuples()),
    )


def _oneshot(rows: pd.DataFrame, of: str, top: int) -> str:
    columns, label = ("accuracy", "ci_low", "ci_high"), f"one-shot top-{top} accuracy, {of}"
    return parts_by_model(rows, PARTS[of], columns, label, chance=True)
