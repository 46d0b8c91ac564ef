"""An ablation's folder read back: tables as they were written, pictures, and what made them.

A table that is not there is None: an analysis that was not asked for leaves no file. A table that is there
but is not what was written is refused, since a page must not show half of a result.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ttr.errors import DataError
from ttr.files import load_tensors
from ttr.studies.schemas import ABLATION, read_manifest

#: {table: (columns of names, columns of numbers)}
COLUMNS = {
    "results": (
        ("backbone", "dataset", "condition", "task", "metric"),
        ("value", "ci_low", "ci_high", "n", "delta", "delta_ci_low", "delta_ci_high", "p", "p_holm"),
    ),
    "attention": (("condition", "source", "target"), ("block", "share", "ci_low", "ci_high", "n")),
    "divergence": (("condition", "source"), ("block", "js", "ci_low", "ci_high", "n")),
    "geometry": (
        ("condition", "measure"),
        ("value", "ci_low", "ci_high", "n", "delta", "delta_ci_low", "delta_ci_high", "p", "p_holm"),
    ),
    "probing": (("token",), ("block", "accuracy", "ci_low", "ci_high", "chance", "p_holm", "n")),
    "layers": (("task", "metric"), ("block", "value", "ci_low", "ci_high", "n")),
    "registers": (("first", "second"), ("cosine", "ci_low", "ci_high", "n")),
    "additivity": (("registers", "task", "metric", "term"), ("value", "ci_low", "ci_high", "p")),
}
ARRAYS = ("pixels", "norms", "attention", "colours")


@dataclass(frozen=True, eq=False)
class Shown:
    """The pictures of a folder; arrays as in :class:`ttr.studies.ablate.pictures.Pictures`.

    Attributes:
        conditions: C names.
        images: I names.
        queries: of the attention maps, Q names: CLS, then the registers.
        nearest: of each register, {image, row, column, cosine} of its nearest patches.
        arrays: pixels, norms, attention, colours, and crops where there are registers.
    """

    conditions: list[str]
    images: list[str]
    queries: list[str]
    nearest: list[list[dict[str, Any]]] = field(repr=False)
    arrays: dict[str, np.ndarray] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Folder:
    """What an ablation left.

    Attributes:
        path: where.
        manifest: what made it.
        tables: {name: table} of those of :data:`COLUMNS` that are there; ``results`` always is.
        pictures: None where none were made.
    """

    path: Path
    manifest: dict[str, Any]
    tables: dict[str, pd.DataFrame] = field(repr=False)
    pictures: Shown | None

    @property
    def name(self) -> str:
        """The backbone, with its test-time registers where there are some."""
        name = str(self.tables["results"]["backbone"].iloc[0])
        count = self.manifest.get("arm", {}).get("num_registers", 0)
        return f"{name} + {count} test-time" if count else name


def read_folder(path: Path) -> Folder:
    """Read the folder that an ablation wrote.

    Raises:
        DataError: it is not such a folder, is unfinished, or holds a damaged table or picture.
    """
    manifest = read_manifest(path, ABLATION)
    tables = {name: read_table(path / f"{name}.csv", name) for name in COLUMNS}
    kept = {name: table for name, table in tables.items() if table is not None}
    if "results" not in kept:
        raise DataError(f"{path} has no results.csv; run ttr ablate again")
    return Folder(path, manifest, kept, _pictures(path))


def read_table(path: Path, name: str) -> pd.DataFrame | None:
    """Read one of the tables of :data:`COLUMNS`; None where there is no such file.

    Raises:
        DataError: it is no table with these columns and at least one row.
    """
    return read_columns(path, *COLUMNS[name]) if path.exists() else None


def read_columns(
    path: Path, names: Sequence[str], numbers: Sequence[str], command: str = "ttr ablate"
) -> pd.DataFrame:
    """Read a table of which some columns are names and some are numbers; others stay as they are.

    Args:
        path: a CSV file.
        names: columns that hold a text in every row.
        numbers: columns of numbers; a missing one is NaN.
        command: what wrote it, for a refusal.

    Raises:
        DataError: it is no table with these columns and at least one row.
    """
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(names, "str"), keep_default_na=True)
        missing = [column for column in (*names, *numbers) if column not in table]
        if missing:
            raise ValueError(f"no column {missing[0]}")
        if table.empty:
            raise ValueError("no rows")
        if table[list(names)].isna().any(axis=None):
            raise ValueError("a row without a name")
        for column in numbers:
            table[column] = pd.to_numeric(table[column])
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())
        raise DataError(f"{path} is damaged ({why}); run {command} again") from error
    if "verdict" in table:
        table["verdict"] = table["verdict"].fillna("")
    return table


def _pictures(path: Path) -> Shown | None:
    index, arrays = path / "pictures.json", path / "pictures.safetensors"
    if not index.exists() or not arrays.exists():
        return None
    try:
        found = json.loads(index.read_text(encoding="utf-8"))
        tensors, _ = load_tensors(arrays, framework="np")
        names = {name: found[name] for name in ("conditions", "images", "queries", "nearest")}
        shown = Shown(**names, arrays=tensors)
        expected = (len(shown.conditions), len(shown.images))
        fits = all(tensors[name].shape[:2] == expected for name in ARRAYS[1:])
        if not fits or len(tensors["pixels"]) != expected[1]:
            raise ValueError("arrays of other shapes")
        if tensors["attention"].shape[2] != len(shown.queries):
            raise ValueError("queries without a map")
        if shown.nearest and len(tensors["crops"]) != len(shown.nearest):
            raise ValueError("registers without a crop")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{arrays} does not belong to {index.name}, or is damaged ({error}); run ttr ablate again"
        ) from error
    return shown
