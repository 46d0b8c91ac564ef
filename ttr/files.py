"""Writing that is whole or absent: a file or folder appears under its name only when it is complete."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from ttr.errors import OutputError

MANIFEST = "manifest.json"
#: Seconds after which a half-written file has no writer any more.
ABANDONED = 24 * 3600


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON to ``path`` through a temporary file and an atomic rename."""
    write_text(path, json.dumps(value, indent=None, separators=(", ", ": "), allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path`` through a temporary file and an atomic rename."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` through a temporary file beside it and an atomic rename.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


class TensorsError(ValueError):
    """A file that should hold tensors is missing, damaged, or something else."""


def save_tensors(path: Path, tensors: Mapping[str, Any], kind: str = "", header: Any = None) -> None:
    """Write NumPy arrays or torch tensors as safetensors, with ``header`` as JSON under ``kind`` in its own.

    Equal content gives equal bytes. Without a ``kind`` nothing but the tensors is written.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    import numpy as np

    arrays = all(isinstance(tensor, np.ndarray) for tensor in tensors.values())
    save = import_module(f"safetensors.{'numpy' if arrays else 'torch'}").save
    # safetensors writes a view's memory as it lies, whatever its strides say.
    whole = {name: np.asarray(x, order="C") if arrays else x.contiguous() for name, x in tensors.items()}
    # One entry: safetensors writes several in no fixed order.
    write_bytes(path, save(whole, metadata={kind: json.dumps(header)} if kind else None))


def load_tensors(
    path: Path, kind: str = "", schema: str | None = None, framework: Literal["np", "pt"] = "pt"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tensors of a file, NumPy's or torch's, and the header under ``kind`` (``{}``: it has none).

    Raises:
        TensorsError: no such file, no safetensors, or a header of another schema than the one asked for.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework=framework) as file:
            header = json.loads((file.metadata() or {}).get(kind, "{}"))
            found = header.get("schema")
            if schema not in (None, found):
                raise ValueError(f"its schema is {found}")
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise TensorsError(getattr(error, "strerror", None) or str(error)) from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a hidden file beside ``path``, of its suffix, to fill; on success it becomes ``path``.

    On an exception nothing new remains, and an earlier file at ``path`` is as it was.

    Raises:
        OutputError: the folder cannot be made or written, or ``path`` is a folder.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}); choose another place") from error


def clear_abandoned(folder: Path) -> None:
    """Remove the hidden files that :func:`whole_file` left in ``folder`` when its process was killed.

    Only those that nobody has written to for a day: a younger one may belong to a process that is at work.
    """
    for path in folder.glob(".*"):
        with suppress(OSError):
            if path.is_file() and time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield a hidden folder to fill; on success it becomes ``target``, on an exception nothing remains.

    An earlier result (our manifest, and no file that it does not list) or an empty folder is replaced;
    anything else is not ours to remove. The old result is set aside until the new one stands in its place.

    Raises:
        OutputError: ``target`` exists and is no earlier result, or cannot be written.
    """
    target = target.resolve()
    if target.exists() and not (target.is_dir() and _replaceable(target)):
        raise OutputError(
            f"{target} exists and is not a result of ttr; choose another --out, or remove it yourself"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.partial-"))
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error.strerror}); choose another --out") from error
    try:
        yield partial
        partial.chmod(0o755)
        _swap(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _swap(partial: Path, target: Path) -> None:
    if not target.exists():
        partial.replace(target)
        return
    aside = partial.with_name(f"{partial.name}.old")
    target.replace(aside)
    try:
        partial.replace(target)
    except BaseException:
        aside.replace(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _replaceable(folder: Path) -> bool:
    present = {path.name for path in folder.iterdir()}
    if not present:
        return True
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8")).get("files", [])
    except (OSError, ValueError, AttributeError):
        return False
    return present <= {MANIFEST, *listed}
