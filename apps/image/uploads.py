"""Whose a file on the server is: each visitor's uploads and exports lie in a folder of that visitor alone.

A visitor is a name that nobody else can act under (:mod:`ttr.apps.service.visitors` makes it of a cookie).
A path is a visitor's if it leads, through no link, to a regular file in that visitor's folder. Any other path
is turned into one where nothing is: what is forbidden and what is absent then become the same in all that
follows, and a device, a pipe or somebody else's file is never opened.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

from ttr.errors import ImageError, TTRError
from ttr.wording import counted

#: Seconds after which a visitor's file is removed, and after which one that no visitor got is.
FORGOTTEN, ABANDONED = 3600, 600
#: Where a path leads that is not its visitor's. No such folder is ever made.
NOWHERE = "gone"
#: Characters of a path that any system takes.
LONGEST = 4096
#: What the widget library leaves beside the visitors' folders: files on their way, and folders by content.
ON_ITS_WAY = re.compile(r"tmp[^/]*|[0-9a-f]{64}/[^/]+")
#: Said of whatever is not among a visitor's files, whether it is there or not.
ABSENT = "is not among your uploads, or no more; upload it again"
WITHIN_THE_HOUR = "upload fewer, or wait: files are forgotten within the hour"


class QuotaError(TTRError):
    """A visitor's files, or those of all, would take more room than the page keeps for them.

    Attributes:
        status: of the HTTP answer, 413 or 429.
    """

    def __init__(self, said: str, status: int) -> None:
        super().__init__(said)
        self.status = status


@dataclass(frozen=True)
class Quota:
    """How many files are kept at a time, and how many bytes: of one visitor, and of all together."""

    files: int = 1_000
    size: int = 2_000_000_000
    all_files: int = 10_000
    all_size: int = 8_000_000_000


class Uploads:
    """The files of a page's visitors.

    Args:
        folder: of this process alone; uploads arrive in it.
        quota: how much is kept.
    """

    def __init__(self, folder: Path, quota: Quota | None = None) -> None:
        self.folder = folder
        self.quota = quota or Quota()
        self._coming: Counter[str] = Counter()
        self._lock = threading.Lock()

    def owns(self, visitor: str, path: str) -> bool:
        """Return whether a path leads to a regular file of the visitor's, and through no link."""
        if not visitor or len(path) > LONGEST:
            return False
        own, place = self.folder / visitor, Path(path)
        if str(place) != path or ".." in place.parts or not place.is_relative_to(own):
            return False
        try:
            above = [each.lstat().st_mode for each in place.parents if each.is_relative_to(own)]
            return all(map(stat.S_ISDIR, above)) and stat.S_ISREG(place.lstat().st_mode)
        except (OSError, ValueError):
            return False

    def safe(self, visitor: str, path: str) -> str:
        """Return a path if it is the visitor's; else one that ends in the same name, where nothing is."""
        if self.owns(visitor, path):
            return path
        name = "".join(each for each in PurePath(path).name if each.isprintable())
        return str(self.folder / NOWHERE / (name[:60] or "file"))

    @contextmanager
    def coming(self, visitor: str, size: int) -> Iterator[None]:
        """Keep room for bytes that arrive while the block runs.

        Raises:
            QuotaError: there is none.
        """
        with self._lock:
            self._check_size(visitor, size)
            self._coming[visitor] += size
        try:
            yield
        finally:
            with self._lock:
                self._coming[visitor] -= size
                self._coming += Counter()  # forgets who has nothing on its way

    def take(self, visitor: str, arrived: Sequence[str]) -> list[str]:
        """Make files that arrived the visitor's; return their new paths.

        Two visitors who send the same file have one each: removing it from one takes nothing of the other.

        Raises:
            QuotaError: they are too many.
        """
        with self._lock:
            try:
                self._check_number(visitor, len(arrived))
                return [str(self._taken(visitor, Path(path))) for path in arrived]
            except QuotaError:
                for path in arrived:
                    _removed(Path(path))
                raise

    def export(self, visitor: str, name: str, content: bytes) -> Path:
        """Write a file for the visitor alone to fetch, and return its path.

        Raises:
            QuotaError: there is no room for it.
        """
        with self.coming(visitor, len(content)):
            with self._lock:
                self._check_number(visitor, 1, more=1)
                path = Path(tempfile.mkdtemp(prefix="export-", dir=self._own(visitor))) / name
            path.write_bytes(content)
            return path

    def sweep(self, now: float | None = None) -> None:
        """Remove what is older than an hour, and what arrived and became nobody's.

        ``now``: seconds since the epoch; None: as the clock says.
        """
        now = time.time() if now is None else now
        with self._lock:
            for path, status in _files(self.folder):
                inside = path.relative_to(self.folder).as_posix()
                kept = ABANDONED if ON_ITS_WAY.fullmatch(inside) else FORGOTTEN
                if now - status.st_mtime > kept and (kept == ABANDONED or inside.startswith("visitor-")):
                    _removed(path)
            for own in self.folder.glob("visitor-*"):
                with suppress(OSError):  # not empty: stays
                    own.rmdir()

    def _own(self, visitor: str) -> Path:
        own = self.folder / visitor
        own.mkdir(mode=0o700, exist_ok=True)
        return own

    def _taken(self, visitor: str, path: Path) -> Path:
        own = self._own(visitor) / path.parent.name / path.name
        own.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            os.link(path, own)  # and not a move: another visitor may be sending the same file
        except FileExistsError:
            os.utime(own)
        except FileNotFoundError:  # another visitor's same file was refused, and both lay here
            raise QuotaError("this upload met another; send it again", 429) from None
        return own

    def _check_size(self, visitor: str, size: int) -> None:
        """Refuse ``size`` bytes more of a visitor, beside what lies here and what is on its way."""
        own = _used(self.folder / visitor).size + self._coming[visitor]
        if own + size > self.quota.size:
            raise QuotaError(
                f"these files have {_mega(size)} and your others {_mega(own)}; needed "
                f"{_mega(self.quota.size)} at most together: {WITHIN_THE_HOUR}",
                413,
            )
        everything = _used(self.folder).size + self._coming.total()
        if everything + size > self.quota.all_size:
            raise QuotaError(
                f"these files have {_mega(size)} and those of all visitors {_mega(everything)}; needed "
                f"{_mega(self.quota.all_size)} at most together: {WITHIN_THE_HOUR}",
                413,
            )

    def _check_number(self, visitor: str, files: int, more: int = 0) -> None:
        """Refuse ``files`` of a visitor, if ``more`` of them do not lie here yet."""
        own, everything = _used(self.folder / visitor).files, _used(self.folder).files
        if own + files > self.quota.files:
            raise QuotaError(
                f"got {counted(files, 'file')} beside {own} of yours; needed {self.quota.files} at most "
                f"together: {WITHIN_THE_HOUR}",
                429,
            )
        if everything + more > self.quota.all_files:
            raise QuotaError(
                f"with yours all visitors have {everything + more} files here; needed "
                f"{self.quota.all_files} at most together: {WITHIN_THE_HOUR}",
                429,
            )


@dataclass(frozen=True)
class Used:
    """What files take: how many they are, and their bytes, each once however many names it has."""

    files: int
    size: int


def content_of(path: str | Path, most: int, name: str = "this file") -> bytes:
    """Return the bytes of a visitor's file, ``most`` at most; what is no regular file is not waited for.

    Raises:
        ImageError: it is not there, no regular file, a link, empty, or larger.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with ExitStack() as stack:
        try:
            expected = os.lstat(path)
            opened = os.open(path, flags) if stat.S_ISREG(expected.st_mode) else None
        except (OSError, ValueError):
            opened = None
        if opened is None:
            raise ImageError(f"{name} {ABSENT}")
        stack.callback(os.close, opened)
        status = os.fstat(opened)
        if not os.path.samestat(status, expected):  # another took its place meanwhile
            raise ImageError(f"{name} {ABSENT}")
        if status.st_size > most:
            raise ImageError(f"{name} has {_mega(status.st_size)}; needed {_mega(most)} at most")
        with os.fdopen(opened, "rb", closefd=False) as stream:
            content = stream.read(most)
        if not content:
            raise ImageError(f"{name} is empty; choose another")
        return content


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the regular files of a folder with their status; one that goes meanwhile is left out."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            with suppress(OSError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode):
                    yield path, status


def _mega(size: int) -> str:
    return f"{size / 1e6:,.2f} MB" if size < 1e6 else f"{size / 1e6:,.0f} MB"


def _removed(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
    with suppress(OSError):  # not empty: stays
        path.parent.rmdir()


def _used(folder: Path) -> Used:
    sizes = {(status.st_dev, status.st_ino): status.st_size for _, status in _files(folder)}
    return Used(len(sizes), sum(sizes.values()))
