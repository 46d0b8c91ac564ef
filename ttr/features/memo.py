"""What follows from given values by our own code alone, kept in the cache: computed once, never out of date.

A result lies under the SHA-256 of everything that decides it: the values it is made of, the source of the
code that makes it, and the versions of the libraries which that code calls. So a changed input, a changed
line of code or another library finds nothing there and is computed anew. The file's first line is the
SHA-256 of its name and of the rest; a damaged or misplaced file is computed again, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from ttr.digests import sha256, sha256_of
from ttr.files import MOST_JSON, read_bytes, write_bytes


def source_digest(*modules: str) -> str:
    """Return the SHA-256 of the source of some modules of ttr, in hexadecimal.

    Take it when they are imported: a file that is edited later is not the code that runs.
    """
    sources = {}
    for module in modules:
        package, _, name = module.rpartition(".")
        sources[module] = sha256([resources.files(package).joinpath(f"{name}.py").read_bytes()])
    return sha256_of(sources)


def digest_of_all(values: Any, arrays: Sequence[Any], code: str, libraries: Sequence[str]) -> str:
    """Return the SHA-256 of what decides a result, in hexadecimal.

    Args:
        values: JSON values.
        arrays: NumPy arrays of any shape and type, in order.
        code: :func:`source_digest` of what makes the result.
        libraries: distributions whose versions count.
    """
    versions = {name: metadata.version(name) for name in libraries}
    return sha256_of([values, versions, code], arrays)


def computed_once(folder: Path, digest: str, compute: Callable[[], Any]) -> Any:
    """Return the JSON values that lie under ``digest`` in ``folder``, or compute and keep them.

    Floats come back bit for bit, NaN too; what was just computed is returned as it will be read.

    Raises:
        OutputError: the folder cannot be written.
    """
    path = folder / f"{digest}.json"
    body = _read(path)
    if body is None:
        body = json.dumps(compute()).encode()
        write_bytes(path, _seal(path, body) + b"\n" + body)
    return json.loads(body)


def _read(path: Path) -> bytes | None:
    """Return what was kept, or None if it is not there or not as it was written."""
    try:
        seal, _, body = read_bytes(path, MOST_JSON).partition(b"\n")
    except (OSError, ValueError):
        return None
    return body if seal == _seal(path, body) else None


def _seal(path: Path, body: bytes) -> bytes:
    return sha256([path.name, "\n", body]).encode()
