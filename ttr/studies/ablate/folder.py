"""An ablation's folder read back: tables as they were written, pictures, and what made them.

A table that is not there is None: an analysis that was not asked for leaves no file. A table that is there
but is not what was written is refused, since a page must not show half of a result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from ttr.errors import DataError
from ttr.files import load_tensors, read_json
from ttr.studies.schemas import ABLATION, read_manifest
from ttr.studies.table_files import Columns, read_columns, require_in_each

_INTERVAL = ("ci_low", "ci_high")
_CHANGE = ("value", *_INTERVAL, "delta", "delta_ci_low", "delta_ci_high", "p", "p_holm")
COLUMNS = {
    "results": Columns(("backbone", "dataset", "condition", "task", "metric"), _CHANGE, ("n",)),
    "attention": Columns(("condition", "source", "target"), ("share", *_INTERVAL), ("block", "n")),
    "divergence": Columns(("condition", "source"), ("js", *_INTERVAL), ("block", "n")),
    "geometry": Columns(("condition", "measure"), _CHANGE, ("n",)),
    "probing": Columns(("token",), ("accuracy", *_INTERVAL, "chance", "p_holm"), ("block", "n")),
    "layers": Columns(("task", "metric"), ("value", *_INTERVAL), ("block", "n")),
    "registers": Columns(("first", "second"), ("cosine", *_INTERVAL), ("n",)),
    "additivity": Columns(("registers", "task", "metric", "term"), ("value", *_INTERVAL, "p")),
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
        arrays: pixels, norms, attention, colours, and crops and crops_mean where there are registers.
        nearest_mean: the same of each register's mean over the images; empty in folders of earlier versions.
    """

    conditions: list[str]
    images: list[str]
    queries: list[str]
    nearest: list[list[dict[str, Any]]] = field(repr=False)
    arrays: dict[str, np.ndarray] = field(repr=False)
    nearest_mean: list[list[dict[str, Any]]] = field(repr=False, default_factory=list)


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
    if not path.exists():
        return None
    table = read_columns(path, COLUMNS[name])
    if name == "additivity":
        terms = {"sum", "collective", "excess"}
        require_in_each(path, table, ["registers", "task", "metric"], "term", terms)
    return table


class _Patch(BaseModel):
    """Where a register's nearest patch is; a cosine of 1 may be written as an integer."""

    model_config = ConfigDict(strict=True)

    image: str
    row: int
    column: int
    cosine: float


class _Index(BaseModel):
    """``pictures.json``: what the axes of ``pictures.safetensors`` stand for."""

    model_config = ConfigDict(strict=True)

    conditions: list[str]
    images: list[str]
    queries: list[str]
    nearest: list[list[_Patch]]
    nearest_mean: list[list[_Patch]] = []


#: {array: its axes}; letters are counted and must agree, figures are lengths.
AXES = {"pixels": "IHW3", "norms": "CIrc", "attention": "CIQrc", "colours": "CIrc3", "crops": "RKhw3"}
AXES["crops_mean"] = AXES["crops"]


def _pictures(path: Path) -> Shown | None:
    index, arrays = path / "pictures.json", path / "pictures.safetensors"
    if not index.exists() or not arrays.exists():
        return None
    try:
        names = _Index.model_validate(read_json(index)).model_dump()
        tensors, _ = load_tensors(arrays, framework="np", kind="pictures")
        _check_arrays(tensors, names)
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise DataError(
            f"{arrays} does not belong to {index.name}, or is damaged ({why}); run ttr ablate again"
        ) from error
    return Shown(**names, arrays=tensors)


def _check_arrays(arrays: dict[str, np.ndarray], names: dict[str, Any]) -> None:
    """Raise ValueError unless the arrays are those of :class:`Shown` and fit the names."""
    lengths = {"C": len(names["conditions"]), "I": len(names["images"]), "Q": len(names["queries"]), "3": 3}
    nearest, of_mean = names["nearest"], names["nearest_mean"]
    lengths["R"] = len(nearest)
    if of_mean and len(of_mean) != len(nearest):
        raise ValueError("registers without patches")
    # A model without registers has no crops.
    for name in (*ARRAYS, *["crops"] * bool(nearest), *["crops_mean"] * bool(of_mean)):
        if name not in arrays:
            raise ValueError(f"no array {name}")
        array, axes = arrays[name], AXES[name]
        numbers = array.dtype.kind == "f" if name in ("norms", "attention") else array.dtype == np.uint8
        if not numbers or array.ndim != len(axes) or 0 in array.shape:
            raise ValueError(f"{name} is of another type or shape")
        for axis, length in zip(axes, array.shape, strict=True):
            if lengths.setdefault(axis, length) != length:
                raise ValueError(f"arrays of other shapes, such as {name}")
    if nearest and arrays["crops"].shape[1] < max(map(len, [*nearest, *of_mean])):
        raise ValueError("patches without a crop")
