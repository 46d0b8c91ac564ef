"""The folder in which uploads and exports lie: this process's alone, gone with it, however it ends.

While its process lives it holds a lock on a file in the folder; the system takes the lock back from a process
that is killed. Whoever starts next removes the folders whose lock nobody holds, and no others.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ttr.files import read_bytes
from ttr.locks import take

NAME = "ttr-app-"
LOCK = ".ttr-app.lock"
MARK = b"uploads of ttr app; removed by its next start once no process holds a lock on this file\n"


@contextmanager
def private_folder() -> Iterator[Path]:
    """Yield a folder of this process alone, where uploads and exports live; it is gone afterwards."""
    place = Path(tempfile.gettempdir())
    sweep(place)
    folder, lock = _made(place)
    before, os.environ["GRADIO_TEMP_DIR"] = os.environ.get("GRADIO_TEMP_DIR"), str(folder)
    kept, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = kept
        if before is None:
            del os.environ["GRADIO_TEMP_DIR"]
        else:
            os.environ["GRADIO_TEMP_DIR"] = before
        remove(folder)
        os.close(lock)


def sweep(place: Path) -> list[Path]:
    """Remove the private folders in ``place`` that no live process owns; return them.

    What another user owns, what is a link and what carries no lock of ours stays.
    """
    gone = []
    for folder in sorted(place.glob(f"{NAME}*")):
        with suppress(OSError):
            lock = _abandoned(folder)
            if lock is not None:
                try:
                    remove(folder)
                finally:
                    os.close(lock)
                gone.append(folder)
    return gone


def remove(folder: Path) -> None:
    """Remove a private folder, its lock last: if this is cut short, the next start goes on with it."""
    for each in folder.glob("*"):
        if each.name == LOCK:
            continue
        shutil.rmtree(each, ignore_errors=True)
        with suppress(OSError):
            each.unlink(missing_ok=True)
    if all(each.name == LOCK for each in folder.glob("*")):
        shutil.rmtree(folder, ignore_errors=True)


def _made(place: Path) -> tuple[Path, int]:
    """Return a new private folder and its lock, marked once it is held: nobody sweeps what has no mark."""
    folder = Path(tempfile.mkdtemp(prefix=NAME, dir=place))
    lock = take(folder / LOCK)
    assert lock is not None, "a folder of this process alone"
    os.write(lock, MARK)
    return folder, lock


def _abandoned(folder: Path) -> int | None:
    """Return the lock of a private folder of this user, now held; None: somebody holds it, or it is none."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or (hasattr(os, "getuid") and found.st_uid != os.getuid()):
        return None
    lock = folder / LOCK
    try:
        marked = not lock.is_symlink() and read_bytes(lock, len(MARK)) == MARK
    except (OSError, ValueError):
        return None
    return take(lock) if marked else None
