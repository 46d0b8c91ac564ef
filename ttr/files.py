"""Writing that is whole or absent, and reading that takes nothing for granted.

A file appears under its name only when it is complete and on the disk. What is read back may have been
damaged, or made by somebody else: its size is bounded, and what it says is checked before it is used.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from ttr.digests import sha256
from ttr.errors import OutputError
from ttr.locks import take

if TYPE_CHECKING:
    from pandas import DataFrame

MANIFEST = "manifest.json"
#: Bytes that are read of a JSON file, and of a file of tensors, at most.
MOST_JSON, MOST_TENSORS = 64 << 20, 8 << 30
#: Whole numbers that are read of JSON are below it, either way.
MOST_WHOLE = 2**64
#: What the names of half-written files hold, before their suffix.
PARTIAL = ".ttr-partial"
_PARTIAL_FILE = re.compile(rf"\..+{re.escape(PARTIAL)}\d*(\.[^.]*)?")


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


def write_table(path: Path, table: DataFrame) -> None:
    """Write a table as CSV, or as parquet where ``path`` ends so, without its index, whole or not at all.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    with whole_file(path) as temporary:
        if path.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            table.to_csv(temporary, index=False)


def read_bytes(path: Path, most: int) -> bytes:
    """Return the content of a regular file; refusals are :func:`regular_file`'s."""
    with regular_file(path, most) as file:
        return file.read(os.fstat(file.fileno()).st_size)


@contextmanager
def regular_file(path: Path, most: int) -> Iterator[BinaryIO]:
    """Yield a regular file, open for reading; a pipe or a device is not waited for.

    Raises:
        OSError: there is none, or it cannot be read.
        ValueError: it is something else, or has more than ``most`` bytes.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is no regular file")
        if found.st_size > most:
            raise ValueError(f"it has {found.st_size >> 20:,} MiB, and at most {most >> 20:,} are read")
        yield file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


class JSONError(ValueError):
    """A file that should hold JSON is missing, too large, damaged, or something else."""


def read_json(path: Path, most: int = MOST_JSON) -> Any:
    """Return the values of a JSON file of ``most`` bytes at most.

    Raises:
        JSONError: no such file, or it cannot be read, is too large, or is no JSON as :func:`parse_json` asks.
    """
    try:
        return parse_json(read_bytes(path, most))
    except (OSError, ValueError) as error:
        raise JSONError(getattr(error, "strerror", None) or str(error)) from error


def parse_json(text: str | bytes) -> Any:
    """Return JSON values; numbers are finite, whole ones of 64 bits, and no entry of an object stands twice.

    Raises:
        JSONError: it is something else, or nested too deeply.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_once, parse_float=_finite, parse_int=_whole, parse_constant=_finite
        )
    except RecursionError:
        raise JSONError("it is nested too deeply") from None
    except JSONError:
        raise
    except ValueError as error:
        raise JSONError(f"it is no JSON: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise JSONError(f"{name!r} stands in it twice")
    return found


def _whole(text: str) -> int:
    # Longer ones fit neither a float nor an array, wherever they are turned into one.
    value = int(text) if len(text) <= 20 else MOST_WHOLE
    if abs(value) >= MOST_WHOLE:
        raise JSONError(f"{text[:20]} is too large a number")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise JSONError(f"{text[:20]} is no number of JSON")
    return value


class TensorsError(ValueError):
    """A file that should hold tensors is missing, damaged, or something else."""


def save_tensors(
    path: Path, tensors: Mapping[str, Any], kind: str = "", header: Any = None, place: str = ""
) -> None:
    """Write NumPy arrays or torch tensors as safetensors, with ``header`` as JSON under ``kind`` in its own.

    Equal content gives equal bytes. Without a ``kind`` nothing but the tensors is written. Else the header is
    a mapping, and a seal stands in it: the SHA-256 of header, tensors and ``place``, which says what the file
    is besides, so that it counts nowhere else.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    import numpy as np

    arrays = all(isinstance(tensor, np.ndarray) for tensor in tensors.values())
    save = import_module(f"safetensors.{'numpy' if arrays else 'torch'}").save
    # safetensors writes a view's memory as it lies, whatever its strides say.
    whole = {name: np.asarray(x, order="C") if arrays else x.contiguous() for name, x in tensors.items()}
    content = save(whole)
    if kind:
        table, _, payload = _taken_apart(content)
        sealed = {**header, "seal": {"place": place, "sha256": _seal(place, header, table, payload)}}
        # One entry: safetensors writes several in no fixed order.
        content = save(whole, metadata={kind: json.dumps(sealed, allow_nan=False)})
    write_bytes(path, content)


def load_tensors(
    path: Path,
    kind: str = "",
    schema: str | None = None,
    framework: Literal["np", "pt"] = "pt",
    place: str | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tensors of a file, NumPy's or torch's, and the header under ``kind`` (``{}``: it has none).

    A seal is checked where there is one; earlier versions wrote none. With a ``place`` there must be one, and
    of that place.

    Raises:
        TensorsError: no such file, no safetensors, not what was sealed, or a header of another schema than
            the one asked for.
    """
    try:
        content = read_bytes(path, MOST_TENSORS)
        table, metadata, payload = _taken_apart(content)
        header = parse_json(metadata.get(kind, "{}"))
        if not isinstance(header, dict):
            raise ValueError(f"its header {kind} is no object")
        found = header.get("schema")
        if schema not in (None, found):
            raise ValueError(f"its schema is {str(found)[:40]}")
        seal = header.pop("seal", None)
        if seal is not None or place is not None:
            _check_seal(seal, place, header, table, payload)
        load = import_module(f"safetensors.{'numpy' if framework == 'np' else 'torch'}").load
        return load(content), header
    except Exception as error:  # of any kind, safetensors has its own
        raise TensorsError(getattr(error, "strerror", None) or str(error)) from error


def _taken_apart(content: bytes) -> tuple[dict[str, Any], dict[str, str], memoryview]:
    """Return what a safetensors file says of its tensors, its metadata, and the bytes of all tensors."""
    size = int.from_bytes(content[:8], "little")
    table = parse_json(content[8 : 8 + size])
    return table, table.pop("__metadata__", {}), memoryview(content)[8 + size :]


def _seal(place: str, header: Mapping[str, Any], table: dict[str, Any], payload: memoryview) -> str:
    said = json.dumps([place, header, table], sort_keys=True, allow_nan=False)
    return sha256([said, "\n", payload])


def _check_seal(
    seal: Any, place: str | None, header: dict[str, Any], table: dict[str, Any], payload: memoryview
) -> None:
    if not isinstance(seal, dict) or not isinstance(seal.get("place"), str):
        raise ValueError("it has no seal")
    if place not in (None, seal["place"]):
        raise ValueError("it is sealed as something else")
    if seal.get("sha256") != _seal(seal["place"], header, table, payload):
        raise ValueError("its content is not what was written")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a hidden file beside ``path``, of its suffix, to fill; on success it becomes ``path``.

    On an exception nothing new remains, and an earlier file at ``path`` is as it was. Of those who write to
    ``path`` at one time the last one stays. What a process that was killed left is used again, or removed.

    Raises:
        OutputError: the folder cannot be made or written, or ``path`` is a folder or a device.
    """
    try:
        check_writable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_abandoned(path.parent)
        # A folder that is still without its name is put on the disk whole, before it gets it.
        within = any(PARTIAL in part for part in path.absolute().parts[:-1])
        temporary, handle = _own(path)
        try:
            yield temporary
            temporary.chmod(0o644)
            if not within:
                sync(temporary)
            if sys.platform == "win32":  # where no open file can be renamed
                os.close(handle)
                handle = -1
            temporary.replace(path)
            if not within:
                sync(path.parent)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        finally:
            if handle >= 0:
                os.close(handle)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}); choose another place") from error


def check_writable(path: Path) -> None:
    """Raise OutputError where :func:`whole_file` would, as far as that can be told beforehand."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "it is no regular file")
        check_parent(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}); choose another place") from error


def check_parent(path: Path) -> None:
    """Raise OSError unless the nearest folder above ``path`` that is there lets something be made in it."""
    above = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not above.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(above))
    with TemporaryFile(dir=above):  # who may do everything is told by no permission
        pass


def _own(path: Path) -> tuple[Path, int]:
    """Return an empty hidden file that no one else writes to, and its lock: the first that is free."""
    for number in count():
        place = path.with_name(f".{path.stem}{PARTIAL}{number or ''}{path.suffix}")
        handle = take(place)
        if handle is not None:
            os.truncate(handle, 0)
            return place, handle
    raise AssertionError


def sync(path: Path) -> None:
    """Have a file's content, or a folder's names, on the disk before anything is built on them."""
    folder = path.is_dir()
    if folder and sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not folder:  # of which some file systems know nothing
            raise
    finally:
        os.close(handle)


def is_partial(name: str) -> bool:
    """Return whether a file's name is one that :func:`whole_file` gives to what is half-written."""
    return _PARTIAL_FILE.fullmatch(name) is not None


@cache
def clear_abandoned(folder: Path) -> None:
    """Remove the files that :func:`whole_file` left half-written in ``folder`` when its process was killed.

    Only those of its names, and that no living process holds; looked for once a process.
    """
    with suppress(OSError):
        for entry in os.scandir(folder):
            if is_partial(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    handle = take(Path(entry.path))
                    if handle is not None:
                        os.unlink(entry.path)
                        os.close(handle)
