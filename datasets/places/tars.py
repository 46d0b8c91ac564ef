"""Images in tar files, as webdataset lays them out: where each lies, and nothing is ever unpacked to disk.

Only headers are read. An archive that is cut off, damaged, or packed from links is refused whole: a part of
it would pass for all of it.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

from ttr.datasets.limits import MOST_BYTES
from ttr.errors import ImageError

SUFFIX = ".tar"
#: Bytes of one header, long names included, at most.
MOST_HEADER = 1 << 20
BLOCK = tarfile.BLOCKSIZE


class _Headers:
    """A file of which no more than a header is read at once, whatever its headers claim."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, count: int) -> bytes:
        """Return ``count`` bytes, or what there is."""
        if not 0 <= count <= MOST_HEADER:
            raise ValueError("a header is too long")
        return self.file.read(count)


def members(file: BinaryIO, name: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, int, int]]:
    """Yield the name, start and size of each image in a tar file, in its order.

    Args:
        file: open for reading, seekable.
        name: of the file, ahead of the members' names and in messages.
        wanted: path of a member -> whether it is an image, by its name.

    Raises:
        ImageError: no plain tar file, one that is damaged or cut off, or an image in it that is a link.
    """
    length, seen, last = file.seek(0, 2), set[str](), -1
    file.seek(0)
    try:
        with tarfile.open(fileobj=_Headers(file), mode="r:") as archive:  # type: ignore[call-overload]
            while (member := archive.next()) is not None:
                archive.members = []  # which it keeps, one a file
                if member.offset <= last:
                    raise ValueError("its headers run in a circle")
                last = member.offset
                path = member.name.removeprefix("./")
                if member.isdir() or not wanted(path):
                    continue
                _check(name, path, member, length)
                yield f"{name}/{_once(path, seen)}", member.offset_data, member.size
            _check_end(file, archive.offset)
    except ImageError:
        raise
    except Exception as error:  # of any kind, on bytes that may be anything
        why = " ".join(str(error).split())[:100] or type(error).__name__
        raise ImageError(
            f"{name} is no tar file that can be read ({why}); needed a whole one that is not compressed: "
            "pack it anew"
        ) from error


def _once(path: str, seen: set[str]) -> str:
    """Return a path, numbered where it stands in the archive again, and add it to those that were seen."""
    unique, number, own = path, 1, PurePosixPath(path)
    while unique in seen:
        number += 1
        unique = f"{path.removesuffix(own.suffix)} ({number}){own.suffix}"
    seen.add(unique)
    return unique


def _check(name: str, path: str, member: tarfile.TarInfo, length: int) -> None:
    if not member.isreg() or member.issparse():
        raise ImageError(
            f"{name} holds {path} as a link or with holes; needed the files themselves: pack it with "
            "tar --dereference --hard-dereference"
        )
    if not 0 <= member.size <= MOST_BYTES:
        raise ImageError(
            f"{name} says that {path} has {member.size / 1e6:,.0f} MB; needed {MOST_BYTES / 1e6:,.0f} at most"
        )
    if member.offset_data + member.size > length:
        raise ValueError("it is cut off")


def _check_end(file: BinaryIO, offset: int) -> None:
    """Raise ValueError unless the archive ends here by its mark, with nothing but zeros behind."""
    file.seek(offset)
    rest = file.read(MOST_HEADER)
    if len(rest) < BLOCK:
        raise ValueError("it is cut off: the mark of its end is missing")
    if any(rest) or file.read(1):
        raise ValueError("there is more behind its end, or a damaged header")
