"""What an integration says beside its figure: what it is of, and the numbers by block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ttr.apps.html.result_tables import NONE, Cell, number, table
from ttr.drawing.html import fill
from ttr.studies.integrate.charts import NAMES
from ttr.studies.results import Integrated
from ttr.wording import counted

if TYPE_CHECKING:
    import pandas as pd


def about(found: Integrated) -> str:
    """Return what an integration is of, and its warnings."""
    made = found.manifest["provenance"]
    each = made if isinstance(made, list) else [made]
    data = found.manifest["dataset"]
    warnings = [f"A phantom. {text}" for text in dict.fromkeys(m.get("warning") for m in each) if text]
    if (found.table["images"] < found.table["dimensions"]).any():
        warnings.append(
            "There are fewer images than the feature has dimensions: CKA is biased upwards then; the column "
            "without that bias is in the table."
        )
    images = counted(data.get("test") or 0, "test image")
    line = f"{data.get('name', 'a set')}: {images}. R = 0 is the bare model."
    return fill("app_about.html", line=line, warnings=warnings, lead=[], note="")


def counts(table: pd.DataFrame, backbone: str) -> dict[str, int]:
    """Return the numbers of test-time registers that a model was measured with, by their names."""
    found = sorted(set(table.loc[table["backbone"] == backbone, "num_registers"].tolist()))
    return {"none (bare model)" if count == 0 else str(int(count)): int(count) for count in found}


def numbers(found: pd.DataFrame, backbone: str, num_registers: int) -> str:
    """Return each block's parts as a table."""
    here = found[(found["backbone"] == backbone) & (found["num_registers"] == num_registers)]
    rows = [
        [
            str(row["block"]),
            NAMES.get(row["part"], row["part"]),
            number(row["centred"], row["centred_low"], row["centred_high"], "{:.3f}"),
            number(row["cosine"], row["cosine_low"], row["cosine_high"], "{:.3f}"),
            _plain(row["null"]),
            _plain(row["agreement"]),
            _plain(row["deletion"]),
            number(row["cka"], row["ci_low"], row["ci_high"], "{:.3f}"),
            _plain(row.get("cka_debiased", float("nan"))),
            _plain(row["attention_share"]),
            Cell(f"{row['norm']:.2f}"),
        ]
        for row in here.to_dict("records")
    ]
    caption = (
        f"CLS of {backbone} made of one part alone, compared with the model’s own feature, with 95 % "
        "intervals over images. Null: other images’ part. Agreement: the map’s light where patches give. "
        "Deletion: random draws that the brightest patches beat. Attention: of CLS to the part. Norm: length "
        "of the part’s contribution."
    )
    cosines = ("centred cosine", "plain cosine", "null", "agreement", "deletion")
    columns = ("block", "part", *cosines, "CKA", "CKA without bias", "attention", "norm")
    return table("The numbers", caption, columns, rows)


def _plain(value: float) -> Cell:
    return Cell(NONE if value != value else f"{value:.3f}")
