"""Locks on files: the system takes one back when its process ends, however it ends."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: What a file system says that knows no locks, as some network drives do not.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
#: A link that somebody laid in its place is not followed.
FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def take(path: Path) -> int | None:
    """Return a descriptor that holds the lock of a file, made if need be; None: another one holds it.

    Where there are no locks, whoever made the file holds it, until the file is removed.

    Raises:
        OSError: the file cannot be made or opened.
    """
    while True:
        try:
            handle, new = os.open(path, FLAGS | os.O_CREAT | os.O_EXCL, 0o644), True
        except FileExistsError:
            try:
                handle, new = os.open(path, FLAGS), False
            except FileNotFoundError:
                continue
        try:
            locked = _lock(handle, new)
            # Its holder may have removed it, or given it another name, since it was opened.
            if locked and _is_at(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        if not locked:
            return None


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold the lock of a file, which is there meanwhile alone; False: another one holds it.

    Raises:
        OSError: the file cannot be made.
    """
    handle = take(path)
    if handle is None:
        yield False
        return
    try:
        yield True
    finally:
        if sys.platform == "win32":  # where no open file can be removed
            os.close(handle)
        with suppress(OSError):
            path.unlink()
        if sys.platform != "win32":
            os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int, new: bool) -> bool:
        os.lseek(handle, 1 << 62, os.SEEK_SET)  # behind the content, which stays free
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(handle: int, new: bool) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in NO_LOCKS:
                return new
            raise
        return True
