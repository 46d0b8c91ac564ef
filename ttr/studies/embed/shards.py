"""One shard as files: a row an image in Parquet, and the patch tokens beside it in safetensors.

The Parquet file comes last, and says of what plan it is and what the other file's SHA-256 is: where it
stands, the shard is whole. Equal rows give equal bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from ttr.files import parse_json, whole_file
from ttr.studies.embed.plan import Shard

if TYPE_CHECKING:
    from pyarrow import Table

#: Where a file says what it is, among its own metadata.
KEY = b"ttr.embed"
#: Columns that are texts; numbers do not get smaller.
TEXTS = ("image", "error")


class Said(BaseModel):
    """What a shard's file says of itself.

    Attributes:
        plan: digest of its plan.
        shard: which it is.
        errors: rows without an embedding.
        patches: SHA-256 of the file of patch tokens; "": there is none.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    plan: str
    shard: int
    errors: int
    patches: str


@dataclass
class ShardRows:
    """The rows of one shard as they come, batch by batch.

    Attributes:
        names: of its images, in order.
        storage: type of what is written.
        arrays: {what: [n, ...]}, one row an image.
        errors: {row: reason} of the images that have none.
    """

    names: list[str]
    storage: torch.dtype
    arrays: dict[str, Tensor] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)

    def put(self, start: int, found: Mapping[str, Tensor]) -> None:
        """Put the rows of a batch from row ``start`` on; what cannot be written as it is becomes an error."""
        for name, values in found.items():
            if name not in self.arrays:
                kind = self.storage if values.ndim > 1 else torch.float32
                self.arrays[name] = torch.zeros((len(self.names), *values.shape[1:]), dtype=kind)
            rows = self.arrays[name][start : start + len(values)]
            rows.copy_(values)
            sound = rows.isfinite()
            sound = sound.flatten(1).all(dim=1) if rows.ndim > 1 else sound
            for place in (~sound).nonzero()[:, 0].tolist():
                kept = str(rows.dtype).removeprefix("torch.")
                reason = f"the model makes no finite {name} of it that {kept} holds; see --dtype, --storage"
                self.errors.setdefault(start + place, reason)


def write_shard(folder: Path, shard: Shard, plan: str, rows: ShardRows) -> None:
    """Write a shard, whole or not at all.

    Raises:
        OutputError: the folder cannot be written.
    """
    from pyarrow import parquet

    for place in rows.errors:
        for array in rows.arrays.values():
            array[place] = 0
    digest = ""
    if "patches" in rows.arrays:
        digest = _write_patches(folder / shard.patches, rows.arrays.pop("patches"))
    said = Said(plan=plan, shard=shard.index, errors=len(rows.errors), patches=digest)
    table = _table(rows).replace_schema_metadata({KEY: said.model_dump_json()})
    packed = {name: "zstd" if name in TEXTS else "none" for name in table.column_names}
    with whole_file(folder / shard.name) as file:
        # The leaf of a list has a name of its own.
        paths = {"embedding.list.element": "none", **packed}
        parquet.write_table(
            table,
            file,
            compression=paths,
            use_dictionary=False,
            write_page_checksum=True,
            row_group_size=8192,
        )


def _write_patches(path: Path, patches: Tensor) -> str:
    """Write patch tokens [n, P, D], zeros for an image that could not be read; return the file's SHA-256."""
    from safetensors.torch import save_file

    with whole_file(path) as file:
        save_file({"patches": patches}, file)
        return file_digest(file)


def _table(rows: ShardRows) -> Table:
    import pyarrow

    bad = np.zeros(len(rows.names), dtype=bool)
    bad[list(rows.errors)] = True
    columns: dict[str, Any] = {"image": pyarrow.array(rows.names, pyarrow.string())}
    for name, values in rows.arrays.items():
        array = values.numpy()
        if array.ndim == 1:
            columns[name] = pyarrow.array(array, mask=bad)
        else:
            columns[name] = pyarrow.FixedSizeListArray.from_arrays(
                pyarrow.array(array.reshape(-1)), array.shape[1], mask=pyarrow.array(bad)
            )
    reasons = [rows.errors.get(row) for row in range(len(rows.names))]
    return pyarrow.table({**columns, "error": pyarrow.array(reasons, pyarrow.string())})


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, a piece of it in memory at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def said_of(folder: Path, shard: Shard, plan: str) -> Said | None:
    """Return what a shard's file says of itself where the shard is there and of this plan, else None.

    Its end alone is read, so one that is cut off is none, and one with a flipped bit passes.
    """
    from pyarrow import parquet

    try:
        found = parquet.read_metadata(folder / shard.name)
        said = Said.model_validate(parse_json(found.metadata[KEY]))
        if said.patches and not (folder / shard.patches).is_file():
            return None
    except Exception:  # of any kind: pyarrow has its own
        return None
    whole = (said.plan, said.shard, found.num_rows) == (plan, shard.index, shard.end - shard.start)
    return said if whole else None


def read_rows(folder: Path, shard: Shard, columns: list[str] | None = None) -> Table:
    """Return the rows of a shard, every page held to its checksum.

    Raises:
        ValueError: it is not there, or damaged.
    """
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(folder / shard.name, page_checksum_verification=True) as file:
            if not _is_ours(file.schema_arrow):
                raise ValueError("it has other columns than a shard")
            return file.read(columns)
    except Exception as error:  # pyarrow raises many kinds, none of them its own
        raise ValueError(getattr(error, "strerror", None) or "it is damaged") from error


def _is_ours(schema: Any) -> bool:
    """Return whether a table has the columns that every shard has, each of its type."""
    from pyarrow import types

    texts = all(name in schema.names and types.is_string(schema.field(name).type) for name in TEXTS)
    return texts and "embedding" in schema.names and types.is_fixed_size_list(schema.field("embedding").type)


def first_error(folder: Path, shard: Shard) -> tuple[str, str]:
    """Return the name of the first image of a shard without an embedding, and the reason.

    Raises:
        ValueError: the shard is damaged, or has no such image.
    """
    for row in read_rows(folder, shard, list(TEXTS)).to_pylist():
        if row["error"] is not None:
            return row["image"], row["error"]
    raise ValueError("it has no image without an embedding")
