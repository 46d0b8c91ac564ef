"""The same on any file system that fsspec knows: ``s3://bucket/images``, ``https://...``, ``memory://...``.

What a protocol needs beyond fsspec (s3fs, gcsfs, ...) is installed by whoever has images there, and how it
logs in is that package's own affair: nothing of it passes through here, or into a result.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ttr.datasets.folder import is_visible
from ttr.datasets.limits import MOST_BYTES
from ttr.datasets.opening import KINDS
from ttr.datasets.places.copies import Copies
from ttr.datasets.places.listing import UNKNOWN, WHOLE, Entry, Listing
from ttr.datasets.places.local import is_named_as_image
from ttr.datasets.places.tars import SUFFIX, members
from ttr.errors import ImageError, TTRError

#: What a copy of a tar file's list of images is called; another one for another way to list them.
MEMBERS = "members/1"


def is_address(where: str) -> bool:
    """Return whether a text is an address and no path of this machine."""
    return "://" in where or "::" in where


def file_system(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and what it calls the place.

    Raises:
        ImageError: the protocol is not known, or its package is not installed.
    """
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(address)
    except ImportError as error:
        raise ImageError(f"{address} cannot be read: {error}") from error
    except Exception as error:
        why = " ".join(str(error).split())[:200]
        raise ImageError(f"{address} is no address that can be read ({why}); check it") from error


def remote_listing(address: str, copies: Copies | None = None) -> Listing:
    """Return the images below an address, folder by folder, each sorted by name; tar files stand for theirs.

    Raises:
        ImageError: there is none, or the place cannot be listed.
    """
    system, root = file_system(address)
    with _reached(address):
        # Over HTTP every page passes for a file; a folder is what ends as one.
        if not root.endswith("/") and system.isfile(root):
            folder, _, name = root.rpartition("/")
            files, root = iter([(name, system.size(root))]), folder
        else:
            files = _files(system, root)
        found = Listing(root, address)
        for name, size in files:
            if name.lower().endswith(SUFFIX):
                file = f"{root.rstrip('/')}/{name}" if root else name
                found.add_archive(file, _members(system, address, file, name, copies))
            elif is_named_as_image(name):
                found.add(name, UNKNOWN if size is None else size)
    if not len(found):
        raise ImageError(f"no images found at {address}; needed {KINDS} files, or tar files of them")
    return found


def _members(
    system: Any, address: str, file: str, name: str, copies: Copies | None
) -> Iterable[tuple[str, int, int]]:
    """Yield the name, start and size of each image in a tar file."""

    def read() -> bytes:
        return json.dumps(list(_read_members(system, file, name))).encode()

    if copies is None:
        return _read_members(system, file, name)
    rows = json.loads(copies.kept(system, file, [address, MEMBERS, name], read))
    return ((member, start, size) for member, start, size in rows)


def _read_members(system: Any, file: str, name: str) -> Iterator[tuple[str, int, int]]:
    with system.open(file, "rb") as archive:
        yield from members(archive, name, is_named_as_image)


def _files(system: Any, root: str) -> Iterator[tuple[str, int | None]]:
    """Yield the visible files below a place and their sizes; links to folders are not followed."""
    folders = [""]
    while folders:
        below = folders.pop()
        inside, here = {}, f"{root.rstrip('/')}/{below}".rstrip("/")
        for info in system.ls(here if below else root, detail=True):
            name = info["name"].rstrip("/").rpartition("/")[2]
            if info["name"].rstrip("/") != here and is_visible(name):
                inside[f"{below}/{name}".lstrip("/")] = info
        for name, info in sorted(inside.items()):
            if info["type"] != "directory":
                yield name, info.get("size")
        links = (name for name, info in inside.items() if info.get("islink"))
        found = {name for name, info in inside.items() if info["type"] == "directory"}
        folders += sorted(found.difference(links), reverse=True)


def remote_bytes(entry: Entry, copies: Copies | None = None) -> bytes:
    """Return the bytes of an image on another file system, at most those of any image.

    Raises:
        ImageError: it is not there, too large, or cannot be read.
    """
    system, _ = file_system(entry.address)
    if entry.size > MOST_BYTES:
        raise ImageError(
            f"{entry.name} has {entry.size / 1e6:,.0f} MB; needed {MOST_BYTES / 1e6:,.0f} at most"
        )

    def read() -> bytes:
        if entry.start != WHOLE:
            return bytes(system.cat_file(entry.file, start=entry.start, end=entry.start + entry.size))
        with system.open(entry.file, "rb") as file:
            return bytes(file.read(MOST_BYTES + 1))

    with _reached(entry.name):
        what = [entry.address, entry.start, entry.size]
        content = read() if copies is None else copies.kept(system, entry.file, what, read)
    if len(content) > MOST_BYTES:
        raise ImageError(f"{entry.name} has more than {MOST_BYTES / 1e6:,.0f} MB; needed these at most")
    return content


@contextmanager
def _reached(what: str) -> Iterator[None]:
    """Turn whatever a file system raises into one sentence."""
    try:
        yield
    except TTRError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{what} does not exist; check the address") from error
    except Exception as error:  # of any kind, each protocol has its own
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageError(f"{what} cannot be read ({why}); check address, network and login") from error
