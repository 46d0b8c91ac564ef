"""A report as one page: folders of results in, one self-contained file out.

An ablation's folder becomes a part of the page; several are compared with each other on the same images. A
folder of ``ttr integrate``, or an ``integration.csv`` that lies in one of them, adds how faithful the map is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ttr.errors import OptionError
from ttr.files import whole_file
from ttr.studies.ablate.folder import Folder, read_folder
from ttr.studies.ablate.page import page
from ttr.studies.schemas import INTEGRATION, schema_of
from ttr.studies.table_files import Columns, read_columns, require_in_each

INTEGRATED = Columns(
    ("backbone", "part"),
    (
        *("cka", "ci_low", "ci_high", "cosine", "cosine_low", "cosine_high"),
        *("attention_share", "norm", "centred", "centred_low", "centred_high"),
        *("null", "own", "agreement", "deletion"),
    ),
    ("block", "num_registers", "images", "dimensions", "parameters"),
)


def write_report(folders: Sequence[Path], out: Path, *, anonymous: bool = False) -> Path:
    """Write the page of some folders to ``out`` and return ``out``.

    Args:
        folders: of ``ttr ablate``, at least one, and of ``ttr integrate``.
        out: an HTML file.
        anonymous: number images and folders instead of naming them.

    Raises:
        DataError: a folder is no such folder, or is damaged.
        OptionError: no folder of ``ttr ablate`` is among them, or one stands twice.
        OutputError: ``out`` cannot be written.
    """
    resolved = [Path(folder).resolve() for folder in folders]
    if len(set(resolved)) != len(resolved):
        raise OptionError(f"folders {', '.join(map(str, folders))}: name each once")
    ablations: list[Folder] = []
    integrations: list[pd.DataFrame] = []
    for folder in map(Path, folders):
        whole = schema_of(folder) == INTEGRATION
        if not whole:
            ablations.append(read_folder(folder))
        if whole or (folder / "integration.csv").exists():
            integrations.append(read_integration(folder / "integration.csv"))
    if not ablations:
        raise OptionError(
            "got no folder of ttr ablate; needed at least one (ttr integrate writes its own page)"
        )
    with whole_file(out) as temporary:  # a place that cannot be written is refused before the work
        temporary.write_text(page(ablations, integrations, anonymous=anonymous), encoding="utf-8")
    return out


def default_page(folders: Sequence[Path]) -> Path:
    """Return ``index.html`` in the first ablation's folder; a folder of ``ttr integrate`` has its own.

    Raises:
        DataError: a folder has no manifest that can be read.
    """
    ablations = [folder for folder in folders if schema_of(folder) != INTEGRATION]
    return (ablations or folders)[0] / "index.html"


def read_integration(path: Path) -> pd.DataFrame:
    """Read ``integration.csv`` as ``ttr integrate`` writes it.

    Raises:
        DataError: it is not that table.
    """
    table = read_columns(path, INTEGRATED, "ttr integrate")
    require_in_each(path, table, ["backbone", "block", "num_registers"], "part", {"patches"})
    return table
