"""A folder of this process alone for what must not stay: gone with its process, however that ends.

While its process lives it holds a lock on a file in the folder; the system takes the lock back from a process
that is killed. Whoever starts next removes the folders of its kind whose lock nobody holds, and no others.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ttr.files import read_bytes
from ttr.locks import take


@dataclass(frozen=True)
class Kind:
    """What private folders of a command are called: how their names begin, and what lies in their lock."""

    name: str
    mark: bytes

    @property
    def lock(self) -> str:
        """The name of the lock in each of them."""
        return f".{self.name}.lock"

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Yield a new folder among the temporary ones, open to this user alone; it is gone afterwards."""
        place = Path(tempfile.gettempdir())
        self.sweep(place)
        folder, lock = self._made(place)
        try:
            yield folder
        finally:
            self.remove(folder)
            os.close(lock)

    def sweep(self, place: Path) -> list[Path]:
        """Remove the private folders in ``place`` that no live process owns; return them.

        What another user owns, what is a link and what carries no lock of ours stays.
        """
        gone = []
        for folder in sorted(place.glob(f"{self.name}-*")):
            with suppress(OSError):
                lock = self._abandoned(folder)
                if lock is not None:
                    try:
                        self.remove(folder)
                    finally:
                        os.close(lock)
                    gone.append(folder)
        return gone

    def remove(self, folder: Path) -> None:
        """Remove a private folder, its lock last: if this is cut short, the next start goes on with it."""
        for each in folder.glob("*"):
            if each.name == self.lock:
                continue
            shutil.rmtree(each, ignore_errors=True)
            with suppress(OSError):
                each.unlink(missing_ok=True)
        if all(each.name == self.lock for each in folder.glob("*")):
            shutil.rmtree(folder, ignore_errors=True)

    def _made(self, place: Path) -> tuple[Path, int]:
        """Return a new folder and its lock, marked once it is held: nobody sweeps what has no mark."""
        folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=place))
        lock = take(folder / self.lock)
        assert lock is not None, "a folder of this process alone"
        try:
            os.write(lock, self.mark)
        except OSError:  # a full disk; without its mark nobody would ever sweep it
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
            raise
        return folder, lock

    def _abandoned(self, folder: Path) -> int | None:
        """Return the lock of a private folder of this user, held; None: somebody holds it, or it is none."""
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or (hasattr(os, "getuid") and found.st_uid != os.getuid()):
            return None
        lock = folder / self.lock
        try:
            marked = not lock.is_symlink() and read_bytes(lock, len(self.mark)) == self.mark
        except (OSError, ValueError):
            return None
        return take(lock) if marked else None
