"""A results folder as the page sees it: which finished results it holds, each read when first looked at.

A result is a folder with a manifest of ``ttr ablate``, ``ttr bench`` or ``ttr integrate``: the folder given,
one in it, or one in that. Its name is where it lies in there. Nothing else is read: a link that leads out is
not followed, and a refusal names the result, never a path. What was read is kept until the manifest changes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttr.errors import DataError, OptionError, TTRError
from ttr.files import MANIFEST, read_bytes, read_json
from ttr.folders import restore_all
from ttr.studies.schemas import ABLATION, BENCHMARK, COMMANDS, INTEGRATION, MOST_MANIFEST, read_manifest
from ttr.studies.table_files import MOST, Columns, read_columns

if TYPE_CHECKING:
    import pandas as pd

    from ttr.studies.ablate.folder import Folder

#: Folders that are looked at, at most: someone may point at a whole disk.
MOST_FOLDERS = 1000
OUTCOMES = Columns(
    ("dataset", "backbone", "arm", "head", "metric", "feature"),
    ("value", "ci_low", "ci_high"),
    ("seed", "n", "num_registers"),
)
DIFFERENCES = Columns(
    ("head", "feature", "metric", "first", "second", "verdict"),
    ("difference", "ci_low", "ci_high", "p", "p_holm", "p_mcnemar_holm", "smallest_detectable"),
    ("num_registers", "n"),
)


@dataclass(frozen=True)
class Result:
    """A finished result.

    Attributes:
        name: where it lies in the results folder, for people.
        schema: of :data:`ttr.studies.schemas.COMMANDS`.
        path: its folder.
        written: when its manifest was written, ns.
        root: the results folder, which nothing may lead out of.
    """

    name: str
    schema: str
    path: Path = field(repr=False)
    written: int
    root: Path = field(repr=False)


@dataclass(frozen=True, eq=False)
class Benchmarked:
    """What a benchmark left, columns as in :mod:`ttr.studies.bench.tables`.

    ``comparisons`` is None where no two arms could be compared.
    """

    manifest: dict[str, Any]
    results: pd.DataFrame = field(repr=False)
    comparisons: pd.DataFrame | None = field(repr=False)


@dataclass(frozen=True, eq=False)
class Integrated:
    """What an integration left: columns of ``table`` as in :mod:`ttr.studies.integrate.tables`."""

    manifest: dict[str, Any]
    table: pd.DataFrame = field(repr=False)


class Results:
    """The results of one folder, or none where there is no folder."""

    def __init__(self, root: Path | None = None) -> None:
        """Take a folder.

        Raises:
            OptionError: it is no folder.
        """
        if root is not None and not root.is_dir():
            raise OptionError(
                f"--results {root} is not a folder; give one that holds results, or leave it out"
            )
        self.root = None if root is None else root.resolve()

    def names(self, schema: str) -> list[str]:
        """Return the names of the finished results of a kind; they are looked for anew each time."""
        return [name for (kind, name) in self._found() if kind == schema]

    def stamp(self, schema: str, name: str) -> str:
        """Return what tells a result from an earlier one of that name.

        Raises:
            DataError: there is no such result.
        """
        return f"{schema} {name} {self._result(schema, name).written}"

    def ablation(self, name: str) -> Folder:
        """Read an ablation.

        Raises:
            DataError: there is no such result, it is damaged, or it leads out of the results folder.
        """
        return _ablation(self._result(ABLATION, name))

    def benchmark(self, name: str) -> Benchmarked:
        """Read a benchmark; raises as :meth:`ablation` does."""
        return _benchmark(self._result(BENCHMARK, name))

    def integration(self, name: str) -> Integrated:
        """Read an integration; raises as :meth:`ablation` does."""
        return _integration(self._result(INTEGRATION, name))

    def _result(self, schema: str, name: str) -> Result:
        found = self._found().get((schema, name))
        if found is None:
            raise DataError(f"no result of {COMMANDS[schema]} is named {name}; choose one of the list")
        return found

    def _found(self) -> dict[tuple[str, str], Result]:
        found: dict[tuple[str, str], Result] = {}
        root = self.root
        if root is None:
            return found
        below = chain.from_iterable(chain([first], _children(first, root)) for first in _children(root, root))
        for path in islice(chain([root], below), MOST_FOLDERS):
            name = root.name if path == root else path.relative_to(root).as_posix()
            result = _finished(path, name or "results", root)
            if result is not None:
                found.setdefault((result.schema, result.name), result)
        return found


def _children(folder: Path, root: Path) -> Iterator[Path]:
    """Yield the folders in a folder in order, without hidden ones (unfinished results) and links that lead
    out."""
    restore_all(folder)
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if not entry.name.startswith(".") and _within(entry, root) and os.path.isdir(entry):
            yield entry


def _within(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # links that run in a circle
        return False


def _finished(path: Path, name: str, root: Path) -> Result | None:
    """Return the result in a folder; None where there is none of ours."""
    file = path / MANIFEST
    try:
        if not file.is_file() or not _within(file, root):
            return None
        schema = read_json(file, MOST_MANIFEST)["schema"]
        name.encode()  # a page cannot show what is no text
        return Result(name, schema, path, file.stat().st_mtime_ns, root) if schema in COMMANDS else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


@contextmanager
def _opened(result: Result) -> Iterator[Path]:
    """Yield a result's folder to read, once nothing in it leads out; refusals lose their path."""
    path = result.path
    try:
        leads_out = next((entry.name for entry in path.iterdir() if not _within(entry, result.root)), None)
        if leads_out is not None:
            raise DataError(
                f"{leads_out} in it is a link out of the results folder, which is not followed; "
                "put the file itself there"
            )
        yield path
    except TTRError as error:
        said = str(error).replace(f"{path}{os.sep}", "").replace(str(path), "the folder")
        raise DataError(f"{result.name}: {said}") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise DataError(f"{result.name} cannot be read ({why}); choose another result") from None


@lru_cache(maxsize=8)
def _ablation(result: Result) -> Folder:
    from ttr.studies.ablate.folder import read_folder

    with _opened(result) as path:
        return read_folder(path)


@lru_cache(maxsize=8)
def _benchmark(result: Result) -> Benchmarked:
    command = COMMANDS[BENCHMARK]
    with _opened(result) as path:
        manifest = read_manifest(path, BENCHMARK)
        outcomes = read_columns(path / "results.csv", OUTCOMES, command)
        pairs = path / "comparisons.csv"
        # Without two arms to compare the table has no columns either.
        some = not pairs.exists() or bool(read_bytes(pairs, MOST).strip())
        return Benchmarked(manifest, outcomes, read_columns(pairs, DIFFERENCES, command) if some else None)


@lru_cache(maxsize=8)
def _integration(result: Result) -> Integrated:
    from ttr.studies.ablate.report import read_integration

    with _opened(result) as path:
        return Integrated(read_manifest(path, INTEGRATION), read_integration(path / "integration.csv"))
