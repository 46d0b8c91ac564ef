"""Folders that are whole or absent: one writer at a time, and the earlier result stands until the new one.

Beside a target ``out`` there lie, while it is written, ``.out.ttr-lock`` and ``.out.ttr-partial-...``, which
is filled. At the end the two folders change names in one step. Where the system cannot do that the earlier
result is called ``.out.ttr-earlier`` for a moment; whoever comes next after a kill in that moment, writer or
reader, gives it its name back. What a killed writer left is removed by the next one to the same target.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from ttr.errors import OutputError
from ttr.files import PARTIAL, check_parent, sync
from ttr.locks import held

LOCK, EARLIER = ".ttr-lock", ".ttr-earlier"
#: Of Linux: names are relative to the working directory, and are exchanged.
AT_FDCWD, RENAME_EXCHANGE = -100, 2
#: What a kernel or a file system says that cannot exchange two names.
NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


def nothing(folder: Path) -> bool:
    """Return False: no folder is ours."""
    return False


@contextmanager
def whole_folder(target: Path, ours: Callable[[Path], bool] = nothing) -> Iterator[Path]:
    """Yield a hidden folder to fill; on success it becomes ``target``, on an exception nothing remains.

    An earlier result or an empty folder is replaced; anything else is not ours to remove. Everything is on
    the disk before it gets its name.

    Args:
        target: the folder.
        ours: whether everything in a folder is an earlier result.

    Raises:
        OutputError: ``target`` exists and is no earlier result, someone else writes to it, or it cannot be
            written.
    """
    try:
        target = _resolved(target)
        _check(target, ours)
        target.parent.mkdir(parents=True, exist_ok=True)
        with held(_beside(target, LOCK)) as alone:
            if not alone:
                raise OutputError(
                    f"{target} is being written by another ttr command; wait until that ends, or choose "
                    "another --out"
                )
            _tidy(target, ours)
            partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}{PARTIAL}-"))
            try:
                yield partial
                partial.chmod(0o755)
                for folder, _, names in os.walk(partial):
                    for path in (*map(Path(folder).joinpath, names), Path(folder)):
                        sync(path)
                _give_name(partial, target, ours)
                sync(target.parent)
            except OutputError as error:
                raise OutputError(str(error).replace(str(partial), str(target))) from error
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        if not _is_about(error, target):
            raise
        raise OutputError(f"{target} cannot be written ({error.strerror}); choose another --out") from error


def check_target(target: Path, ours: Callable[[Path], bool] = nothing) -> None:
    """Raise OutputError as :func:`whole_folder` would, as far as that can be told without writing."""
    try:
        target = _resolved(target)
        _check(target, ours)
        check_parent(target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error.strerror}); choose another --out") from error


def restore(target: Path) -> None:
    """Give an earlier result its name back if a kill between two renames left it without one."""
    with suppress(OSError):
        if _beside(target, EARLIER).is_dir() and not os.path.lexists(target):
            with held(_beside(target, LOCK)) as alone:
                if alone:
                    _tidy(target, nothing)


def restore_all(folder: Path) -> None:
    """Do so for every result in a folder."""
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if entry.name.startswith(".") and entry.name.endswith(EARLIER):
                restore(folder / entry.name[1 : -len(EARLIER)])


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(f".{target.name}{suffix}")


def _is_about(error: OSError, target: Path) -> bool:
    """Return whether an error is of the place, not of something that was read meanwhile."""
    name = str(error.filename or "")
    return (
        error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
        or Path(name) in (target, *target.parents)
        or name.startswith(str(_beside(target, ".")))
    )


def _resolved(target: Path) -> Path:
    try:
        return target.resolve()
    except RuntimeError as error:  # of Python before 3.13, for links that go in a circle
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(target)) from error


def _check(target: Path, ours: Callable[[Path], bool]) -> None:
    if os.path.ismount(target):
        raise OutputError(
            f"{target} is where a drive is mounted, which no other folder can replace; choose a folder in it"
        )
    if target.exists() and Path.cwd().is_relative_to(target):
        raise OutputError(
            f"{target} is the working directory or holds it, and would be replaced under it; choose a folder "
            "in it, or leave it first"
        )
    if target.exists() and not (target.is_dir() and _replaceable(target, ours)):
        raise _not_ours(target)


def _not_ours(target: Path) -> OutputError:
    return OutputError(
        f"{target} exists and is not a result of ttr; choose another --out, or remove it yourself"
    )


def _replaceable(folder: Path, ours: Callable[[Path], bool]) -> bool:
    return not any(folder.iterdir()) or ours(folder)


def _tidy(target: Path, ours: Callable[[Path], bool]) -> None:
    """Clear away what a killed writer left; whoever calls holds the lock, so nobody else is at work."""
    for entry in list(os.scandir(target.parent)):
        if entry.name.startswith(f".{target.name}{PARTIAL}-"):
            shutil.rmtree(entry.path, ignore_errors=True)
    earlier = _beside(target, EARLIER)
    if earlier.is_symlink() or not earlier.is_dir():
        return
    if not os.path.lexists(target):
        earlier.rename(target)
    elif _replaceable(earlier, ours):
        # Half removed it would be nobody's, so it goes under the name of what may be swept.
        going = _beside(target, f"{PARTIAL}-earlier")
        earlier.rename(going)
        shutil.rmtree(going, ignore_errors=True)


def _give_name(partial: Path, target: Path, ours: Callable[[Path], bool]) -> None:
    """Let ``partial`` be ``target``, and what that was be ``partial``, or nothing at all."""
    if not target.exists():
        partial.rename(target)
    elif not exchange(partial, target):
        _check(target, ours)
        earlier = _beside(target, EARLIER)
        target.rename(earlier)
        try:
            partial.rename(target)
        except BaseException:
            earlier.rename(target)
            raise
        earlier.rename(partial)
    elif not _replaceable(partial, ours):
        # Somebody put something there while we were at work.
        exchange(partial, target)
        raise _not_ours(target)


def exchange(a: Path, b: Path) -> bool:
    """Let two folders change names in one step; False where kernel or file system cannot.

    Raises:
        OSError: as renaming does.
    """
    call = _renameat2()
    if call is None:
        return False
    if call(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in NO_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(b))


@cache
def _renameat2() -> Any:
    """Return the system's renameat2; None where there is none (Linux has it since 2014)."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return call
