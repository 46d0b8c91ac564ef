"""Copies of what was read from another file system, on this machine: so many bytes of them, none out of date.

A copy lies under the SHA-256 of where it was read and of the version that the file has there: ETag, checksum
or time of change, and size. That is asked anew before every use, so a file that has changed is read again; of
one that has no version nothing is kept. The first line of a copy is the SHA-256 of its name and of the rest:
what is damaged or misplaced is read again, too.

Copies lie in drawers, and each drawer holds its share of the bytes. Where one more finds no room in it, those
go that were not used for longest.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttr.datasets.limits import MOST_BYTES
from ttr.digests import sha256, sha256_of
from ttr.errors import OutputError
from ttr.files import read_bytes, write_bytes
from ttr.locks import held

DRAWERS = 64
#: Bytes of copies, unless other ones are asked for.
MOST = 10 * 10**9
#: What file systems call the version of a file, or a part of it.
VERSIONS = (
    *("ETag", "etag", "md5Hash", "Content-MD5", "Digest", "checksum", "sha", "generation", "VersionId"),
    *("mtime", "LastModified", "Last-Modified", "last_modified", "modified", "updated"),
)
SUFFIX = ".copy"


@dataclass(frozen=True)
class Copies:
    """Where copies lie, and how many.

    Attributes:
        folder: of the copies alone.
        most: bytes of them at most.
    """

    folder: Path
    most: int = MOST

    def ready(self) -> None:
        """Make the folder, for this user alone.

        Raises:
            OutputError: it cannot be made or written.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.folder} cannot be made ({error.strerror}); choose another") from error
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise OutputError(f"{self.folder} cannot be written; choose another folder for copies")

    def kept(self, system: Any, file: str, what: list[Any], read: Callable[[], bytes]) -> bytes:
        """Return what ``read`` does, from a copy where there is one of the file as it is now.

        Args:
            system: the file system.
            file: as it is called there.
            what: JSON values that say what of the file is read, and through which address.
            read: reads it.

        Raises:
            OutputError: the folder cannot be written.
        """
        version = _version(system, file)
        if version is None:
            return read()
        digest = sha256_of([file, what, version])
        path = self.folder / f"{int(digest[:8], 16) % DRAWERS:02}" / f"{digest}{SUFFIX}"
        copy = _copy(path)
        if copy is not None:
            return copy
        content = read()
        if _version(system, file) == version:
            self._keep(path, content)
        return content

    def _keep(self, path: Path, content: bytes) -> None:
        """Put one more copy into its drawer, unless another process does so just now."""
        sealed = _seal(path, content) + content
        if len(sealed) > self.most // DRAWERS:
            return
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with held(path.parent / ".lock") as own:
                if own:
                    _make_room(path.parent, self.most // DRAWERS - len(sealed))
                    write_bytes(path, sealed)
        except OSError as error:
            raise OutputError(f"{path.parent} cannot be written ({error.strerror})") from error


def _version(system: Any, file: str) -> dict[str, str] | None:
    """Return all that says which version of a file there is now, or None where nothing does.

    A weak ETag is none: it stays where a file changes in a way that its server takes for unimportant.
    """
    system.invalidate_cache(file)  # of what a listing said of it, a while ago
    info = system.info(file)
    told = {name: str(info[name]) for name in VERSIONS if info.get(name)}
    told = {name: value for name, value in told.items() if not value.startswith("W/")}
    if not told:
        try:
            told = {"modified": str(system.modified(file))}
        except NotImplementedError:
            return None
    return {**told, "size": str(info.get("size"))}


def _copy(path: Path) -> bytes | None:
    """Return a copy's content, used just now; None where it is not there, or not as it was written."""
    try:
        sealed = memoryview(read_bytes(path, MOST_BYTES + 128))
    except (OSError, ValueError):
        return None
    end = len(_seal(path, b""))
    content = bytes(sealed[end:])
    if sealed[:end] != _seal(path, content):
        return None
    with suppress(OSError):
        os.utime(path)
    return content


def _seal(path: Path, content: bytes) -> bytes:
    return sha256([path.name, "\n", content]).encode() + b"\n"


def _make_room(drawer: Path, most: int) -> None:
    """Remove the copies that were not used for longest, until the rest has ``most`` bytes at most."""
    lying = []
    with os.scandir(drawer) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if entry.name.endswith(SUFFIX):
                    found = entry.stat(follow_symlinks=False)
                    lying.append((found.st_mtime_ns, entry.path, found.st_size))
    size = sum(each[2] for each in lying)
    for _, path, own in sorted(lying):
        if size <= most:
            return
        with suppress(FileNotFoundError):
            os.unlink(path)
        size -= own
