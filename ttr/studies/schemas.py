"""What result folders hold and say of themselves: a schema each, known files, and what made the result."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ttr.errors import DataError
from ttr.files import MANIFEST, JSONError, is_partial, read_json
from ttr.folders import check_target, restore, whole_folder

ABLATION, BENCHMARK, INTEGRATION = "ttr.ablate/1", "ttr.bench/1", "ttr.integrate/1"
TUNING, COMPARISON, DEMO, EXPORT = "ttr.tune/1", "ttr.compare/1", "ttr.demo/1", "ttr.export/1"
DECOUPLING, MEDICAL = "ttr.reproduce-decoupling/1", "ttr.reproduce-medical/1"
ZERO_ABLATION, SCAN = "ttr.reproduce-zero-ablation/1", "ttr.scan/1"
LOCALISATION, ATTENTION_MAPS = "ttr.localize/1", "ttr.reproduce-attention-maps/1"
DICOM = "ttr.dicom/1"
READING, READERS = "ttr.reading/1", "ttr.readers/1"
#: What writes the results that are read again.
COMMANDS = {ABLATION: "ttr ablate", BENCHMARK: "ttr bench", INTEGRATION: "ttr integrate"}
#: Bytes of a manifest, at most.
MOST_MANIFEST = 16 << 20


class Holds(NamedTuple):
    """What a kind of result holds besides its manifest: patterns of names of files, the kind of folders."""

    files: tuple[str, ...]
    folders: str | None = None


_ANALYSES = ("additivity", "attention", "divergence", "geometry", "layers", "probing", "registers")
HOLDS = {
    ABLATION: Holds(
        (
            *(f"{name}.csv" for name in ("results", *_ANALYSES)),
            *("per_image.parquet", "pictures.safetensors", "pictures.json", "index.html"),
        )
    ),
    BENCHMARK: Holds(
        (
            *("results.csv", "comparisons.csv", "predictions.parquet", "neurons.json"),
            *("head-*.safetensors", "index.html"),
        )
    ),
    INTEGRATION: Holds(
        (
            *(f"{name}.csv" for name in ("integration", "changes", "accuracy", "layers", "registers")),
            *("oneshot.csv", "dimensions.csv", "shares.csv", "index.html"),
        )
    ),
    LOCALISATION: Holds(
        (
            *(f"localisation{part}.csv" for part in ("", "_sizes", "_pairs")),
            *("images.csv", "curves.csv", "sanity.csv", "complexity.csv"),
            *("discovery.csv", "discovery_pairs.csv", "index.html"),
        )
    ),
    TUNING: Holds(("tune.json", "tune.csv", "neurons.json", "index.html")),
    COMPARISON: Holds(("compare.json", "index.html"), DICOM),
    DICOM: Holds(("*.dcm",)),
    DEMO: Holds(("results.json", "index.html")),
    # Without answers: a study that readers have begun is nothing that another may replace.
    READING: Holds(("key.json", "readers.csv", "picture-*.png")),
    READERS: Holds(
        (
            *(f"{name}.csv" for name in ("trials", "conditions", "differences", "agreement")),
            *("preference.csv", "order.csv", "by_reader.csv", "catch.csv", "index.html"),
        )
    ),
    SCAN: Holds(("scan.csv", "models.csv", "index.html")),
    DECOUPLING: Holds(("reproduction.csv", "index.html"), INTEGRATION),
    MEDICAL: Holds(
        (
            *("reproduction.csv", "by_block.csv", "sweep.csv", "registers_as_classes.csv"),
            *("from_registers.csv", "index.html"),
        ),
        BENCHMARK,
    ),
    ATTENTION_MAPS: Holds(("reproduction.csv", "order.csv", "index.html"), LOCALISATION),
    ZERO_ABLATION: Holds(("reproduction.csv", "between.csv", "flow.csv"), ABLATION),
}
#: Their manifests did not say so in earlier versions; they list all of their files.
_UNNAMED = (TUNING, COMPARISON, DEMO)


class _Said(BaseModel):
    """What must be as it is where it is there; there may be more."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Backbone(_Said):
    name: str = ""
    weights: str = ""
    weights_hash: str = ""


class _Made(_Said):
    ttr: str = ""
    warning: str | None = None
    disclaimer: str = ""
    backbone: _Backbone = _Backbone()


class _Card(_Said):
    title: str = ""
    problems: str = ""


class _Dataset(_Said):
    name: str = ""
    classes: list[str] = []
    images: dict[str, int] = {}
    train: int = 0
    test: int = 0
    analysed: int = 0
    skipped: dict[str, str] = {}
    card: _Card = _Card()


class _Arm(_Said):
    num_registers: int = 0


class _Manifest(_Said):
    files: list[str] = []
    dataset: _Dataset
    provenance: _Made
    arm: _Arm = _Arm()
    notes: list[str] = []
    skipped: dict[str, str] = {}


class _Integration(_Manifest):
    # One a model.
    provenance: list[_Made]  # type: ignore[assignment]


@contextmanager
def result_folder(out: Path) -> Iterator[Path]:
    """Yield a hidden folder for a result; on success it becomes ``out``, and an earlier result is replaced.

    Raises:
        OutputError: as :func:`ttr.folders.whole_folder` does.
    """
    with whole_folder(out, is_result) as folder:
        yield folder


def check_result_folder(out: Path) -> None:
    """Raise OutputError where a result could not become ``out``, as far as that can be told beforehand."""
    check_target(out, is_result)


def is_result(folder: Path, schema: str | None = None) -> bool:
    """Return whether a folder holds a result, and nothing but what its manifest lists and its schema knows.

    A link is none of it, whatever its name. ``schema``: which kind it must be; None: any.
    """
    try:
        manifest = read_json(folder / MANIFEST, MOST_MANIFEST)
        listed = TypeAdapter(list[str]).validate_python(manifest["files"], strict=True)
        kind: Any = manifest.get("schema") or _unnamed(manifest, listed)
        holds = HOLDS[kind]
        entries = list(os.scandir(folder))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False
    return schema in (None, kind) and all(_belongs(entry, {MANIFEST, *listed}, holds) for entry in entries)


def _unnamed(manifest: dict[str, Any], listed: list[str]) -> str | None:
    if not isinstance(manifest.get("provenance"), dict) or "ttr" not in manifest["provenance"]:
        return None
    return next((kind for kind in _UNNAMED if set(listed) == set(HOLDS[kind].files)), None)


def _belongs(entry: os.DirEntry[str], listed: set[str], holds: Holds) -> bool:
    if entry.is_dir(follow_symlinks=False):
        folders = holds.folders
        return entry.name in listed and folders is not None and is_result(Path(entry.path), folders)
    known = any(fnmatchcase(entry.name, pattern) for pattern in (MANIFEST, *holds.files))
    # A report that was killed may have left half of a page there.
    mine = (known and entry.name in listed) or is_partial(entry.name)
    return mine and entry.is_file(follow_symlinks=False)


def schema_of(path: Path) -> str:
    """Return which kind of result a folder holds.

    Raises:
        DataError: it is no folder, or has no manifest that can be read.
    """
    return str(_manifest(path, " or ".join(COMMANDS.values())).get("schema", ""))


def read_manifest(path: Path, schema: str) -> dict[str, Any]:
    """Return the manifest of a folder, one of :data:`COMMANDS`.

    Raises:
        DataError: it is no folder of that kind, unfinished, or does not say what made it.
    """
    command = COMMANDS[schema]
    manifest = _manifest(path, command)
    if manifest.get("schema") != schema:
        what = str(manifest.get("schema", "something else"))[:40]
        raise DataError(f"{path} holds {what}, not {schema}; give a folder that {command} wrote")
    if not manifest.get("provenance") or not isinstance(manifest.get("dataset"), dict):
        raise DataError(f"{path / MANIFEST} does not say what made the result; run {command} again")
    try:
        (_Integration if schema == INTEGRATION else _Manifest).model_validate(manifest)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part)[:40] for part in first["loc"][:6])
        raise DataError(
            f"{path / MANIFEST} is no manifest of schema {schema} ({where}: {first['msg']}); "
            f"run {command} again"
        ) from error
    return manifest


def _manifest(path: Path, command: str) -> dict[str, Any]:
    restore(path)
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; give one that {command} wrote")
    if not (path / MANIFEST).exists():
        raise DataError(
            f"{path} has no {MANIFEST}: not a finished result; give a folder that {command} wrote"
        )
    try:
        found = read_json(path / MANIFEST, MOST_MANIFEST)
    except JSONError as error:
        raise DataError(f"{path / MANIFEST} cannot be read as JSON ({error}); run {command} again") from error
    if not isinstance(found, dict):
        raise DataError(f"{path / MANIFEST} is no manifest of ttr; give a folder that {command} wrote")
    return found
