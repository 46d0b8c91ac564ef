"""What result folders say of themselves: a schema each, and in the manifest what made the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ttr.errors import DataError
from ttr.files import MANIFEST

ABLATION, BENCHMARK, INTEGRATION = "ttr.ablate/1", "ttr.bench/1", "ttr.integrate/1"
TUNING, DEMO, EXPORT = "ttr.tune/1", "ttr.demo/1", "ttr.export/1"
DECOUPLING, MEDICAL = "ttr.reproduce-decoupling/1", "ttr.reproduce-medical/1"
ZERO_ABLATION = "ttr.reproduce-zero-ablation/1"
#: What writes the results that are read again.
COMMANDS = {ABLATION: "ttr ablate", BENCHMARK: "ttr bench", INTEGRATION: "ttr integrate"}


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
        what = manifest.get("schema", "something else")
        raise DataError(f"{path} holds {what}, not {schema}; give a folder that {command} wrote")
    made = manifest.get("provenance")
    # An integration has one a model.
    whole = isinstance(made, list if schema == INTEGRATION else dict) and made
    if not whole or not isinstance(manifest.get("dataset"), dict):
        raise DataError(f"{path / MANIFEST} does not say what made the result; run {command} again")
    return manifest


def _manifest(path: Path, command: str) -> dict[str, Any]:
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; give one that {command} wrote")
    if not (path / MANIFEST).exists():
        raise DataError(
            f"{path} has no {MANIFEST}: not a finished result; give a folder that {command} wrote"
        )
    try:
        found = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path / MANIFEST} cannot be read as JSON; run {command} again") from error
    if not isinstance(found, dict):
        raise DataError(f"{path / MANIFEST} is no manifest of ttr; give a folder that {command} wrote")
    return found
