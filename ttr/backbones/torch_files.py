"""Torch files, read without executing anything in them and without believing the sizes that they claim.

A file says in one place how large its tensors are and holds their bytes in another. Memory is taken by what
is said, so a few kilobytes can ask for terabytes. The sizes are therefore read first, without the bytes, and
compared with the file's. Archives (all since torch 1.6) are mapped, which takes no memory, and each record is
compared with its checksum.

Training checkpoints keep settings beside their weights: an argparse Namespace, NumPy scalars, paths. Nobody
here needs these, so nothing of them is built: the names that such things are made by stand for one class that
takes whatever it is given and keeps nothing.
"""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ttr.errors import ModelError


class _Nothing:
    """Stands for what a file holds beside tensors; whatever is put into it is dropped."""

    def __new__(cls, *given: Any) -> _Nothing:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


#: What may lie beside tensors, by the names that a pickle calls it by.
_BESIDE = [
    *("argparse.Namespace", "numpy.dtype", "numpy.ndarray", "_codecs.encode"),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"{module}.{kind}Path" for module in ("pathlib", "pathlib._local") for kind in ("Posix", "Windows")),
    *(
        f"{module}.Pure{kind}Path"
        for module in ("pathlib", "pathlib._local")
        for kind in ("Posix", "Windows")
    ),
]
#: What torch allows it allows in the whole process: one file at a time.
_ONE_AT_A_TIME = threading.Lock()


def read_torch_file(path: Path) -> Any:
    """Return what a torch file holds, through ``weights_only``; tensors may be views of the file.

    Raises:
        ModelError: no regular file, damaged, or its tensors claim more bytes than it holds.
        Exception: whatever torch raises for a file that is none, or holds more than tensors and numbers.
    """
    if not path.is_file():  # a pipe would be waited for
        raise ModelError(f"{path} is no regular file; give one that torch.save wrote")
    archive = zipfile.is_zipfile(path)
    held = _held(path) if archive else path.stat().st_size
    beside: list[Any] = [(_Nothing, name) for name in _BESIDE]
    with _ONE_AT_A_TIME, torch.serialization.safe_globals(beside):
        with suppress(NotImplementedError):  # quantised tensors have no meta device; they are refused by name
            # Without their bytes storages cannot be told apart: what several tensors share would count twice.
            _compare(path, held, _claimed(torch.load(path, map_location="meta", weights_only=True))[0])
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    _compare(path, held, _claimed(content)[1])
    return content


def _held(path: Path) -> int:
    """Return the bytes of an archive's records, their checksums compared."""
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        held = sum(record.file_size for record in records)
        names = {record.filename for record in records}
        if held > path.stat().st_size or len(names) < len(records):
            raise ModelError(f"{path} is no archive as torch writes it; save it again with torch.save")
        damaged = archive.testzip()
    if damaged is not None:
        raise ModelError(f"{path} is damaged ({damaged} fails its checksum); take an undamaged copy")
    return held


def _compare(path: Path, held: int, claimed: int) -> None:
    if claimed > held:
        raise ModelError(
            f"{path} holds {held:,} bytes, but its tensors claim {claimed:,}; take an undamaged copy"
        )


def _claimed(content: Any) -> tuple[int, int]:
    """Return the bytes of the largest tensor or storage, and of all storages, each counted once."""
    storages: dict[int, int] = {}
    largest = 0
    for tensor in _tensors(content):
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage.nbytes()
        largest = max(largest, storage.nbytes(), tensor.numel() * tensor.element_size())
    return largest, sum(storages.values())


def _tensors(content: Any) -> Iterator[Tensor]:
    """Yield the tensors with a storage in nested dictionaries, lists and tuples, those in a circle too."""
    waiting, seen = [content], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, Tensor):
            if item.layout == torch.strided and (item.is_meta or item.device.type == "cpu"):
                yield item
        elif isinstance(item, dict | list | tuple) and id(item) not in seen:
            seen.add(id(item))
            waiting.extend(item.values() if isinstance(item, dict) else item)
