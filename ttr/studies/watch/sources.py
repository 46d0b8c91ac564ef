"""Where new images come from: an archive, or a folder. What still changes is left until it rests."""

from __future__ import annotations

import errno
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Protocol

from ttr.datasets.dicom.files import frame_paths, is_dicom
from ttr.datasets.dicom.identity import Identity, identity_of
from ttr.datasets.limits import image_file
from ttr.datasets.registry import renamed
from ttr.digests import sha256
from ttr.errors import ImageError, OptionError
from ttr.hospital.web.archive import Archive, Instance, Series
from ttr.hospital.web.messages import of_day
from ttr.studies.pacs.batch import NO_PICTURES, Batch, batches_of
from ttr.studies.watch.ledger import Ledger

#: What a disk says that takes no more.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
#: Key in the ledger of what an archive's lists hold that nobody can ask for.
LISTS = "lists"


class Source(Protocol):
    """Where images come from."""

    def poll(self, ledger: Ledger) -> list[Batch]:
        """Return what is new and at rest."""
        ...

    def fetch(self, series: Series, instance: str, path: Path) -> None:
        """Write an instance to a file."""
        ...

    def marks(self) -> Mapping[str, str]:
        """Return {UID: what is seen of its file}."""
        ...


class ArchiveSource:
    """Series that a query finds. One is at rest when it holds the same instances as the last time.

    Args:
        archive: the archive.
        query: attributes; ``today`` is the day before each poll and what follows.
        results: a series -> those of its results, which are no images.
    """

    def __init__(
        self,
        archive: Archive,
        query: Mapping[str, str],
        results: Callable[[Series], Iterable[Series]],
    ) -> None:
        self._archive, self._query, self._results = archive, query, results
        self._seen: dict[str, list[Instance]] = {}

    def poll(self, ledger: Ledger) -> list[Batch]:
        """Return what is new and at rest.

        Raises:
            ArchiveError: the archive is out of reach.
        """
        found: list[Batch] = []
        seen: dict[str, list[Instance]] = {}
        self._archive.nameless = 0
        there = self._archive.series(of_day(self._query, date.today(), on=True))
        ours = {result.series for each in there for result in self._results(each)}
        for series in there:
            if series.modality in NO_PICTURES or series.series in ours:
                continue
            listed = self._archive.instances(series)
            new = [each for each in listed if not ledger.knows(each.uid)]
            if new and self._seen.get(series.series) == listed:
                found += batches_of(series, new)
            elif new:
                seen[series.series] = listed
        self._seen = seen
        nameless = self._archive.nameless
        if nameless and not ledger.knows(LISTS, str(nameless)):
            ledger.refuse(
                LISTS, f"{nameless:,} of the archive's series or instances have no valid UID", str(nameless)
            )
        return found

    def fetch(self, series: Series, instance: str, path: Path) -> None:
        """Fetch an instance; refusals are ``Archive.fetch``'s."""
        self._archive.fetch(series, instance, path)

    def marks(self) -> Mapping[str, str]:
        """Return nothing: an instance of an archive does not change."""
        return {}


class FolderSource:
    """DICOM files below a folder, no links. One is at rest when size and time are those of the last look.

    Its name, which may be a patient's, stays here: what cannot be read is called by a digest of it.

    Raises:
        OptionError: there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise OptionError(f"--folder {folder} is no folder; needed one that images arrive in")
        self._folder = folder
        self._marks: dict[Path, str] = {}
        self._known: dict[tuple[Path, str], Identity | str] = {}
        self._paths: dict[str, Path] = {}
        self._whose: dict[str, Identity] = {}

    def poll(self, ledger: Ledger) -> list[Batch]:
        """Return what is new and at rest, series with a file that still changes left out.

        Raises:
            ImageError: the folder is gone.
        """
        if not self._folder.is_dir():
            raise ImageError(f"--folder {self._folder} is gone; needed a folder that images arrive in")
        marks = dict(self._looked_at())
        resting = {path for path, mark in marks.items() if self._marks.get(path) == mark}
        self._marks = marks
        self._known = {key: found for key, found in self._known.items() if marks.get(key[0]) == key[1]}
        self._paths, self._whose, new, moving = {}, {}, defaultdict(list), set()
        for path, mark in sorted(marks.items()):
            found = self._identity(path, mark, ledger, final=path in resting)
            if found is None:
                continue
            first = self._paths.setdefault(found.instance, path) == path
            if self._whose.setdefault(found.instance, found) != found:
                self._refuse(
                    path, f"has the UID {found.instance} of an image of another series", mark, ledger
                )
            elif path not in resting:
                moving.add(found.series)
            elif first and not ledger.knows(found.instance, mark):
                frames = len(frame_paths(path))
                new[found.study, found.series].append(Instance(found.instance, frames))
        return [
            batch
            for (study, series), instances in new.items()
            if series not in moving
            for batch in batches_of(Series(study, series), instances)
        ]

    def fetch(self, series: Series, instance: str, path: Path) -> None:
        """Copy an instance's file.

        Raises:
            ImageError: it is gone, cannot be read, or changed meanwhile.
            OSError: the disk takes no more.
        """
        source = self._paths.get(instance)
        if source is None:
            raise ImageError(f"{path} was taken before, and its file is gone; bring it again")
        try:
            with path.open("wb") as copy, image_file(source) as file:
                shutil.copyfileobj(file, copy)
            changed = _mark(source) != self._marks[source]
        except (ImageError, OSError) as error:
            cause = error.__cause__ if isinstance(error, ImageError) else error
            if isinstance(cause, OSError) and cause.errno in FULL:
                raise cause from None
            raise ImageError(f"{path} cannot be read; check its rights, or bring it again") from None
        if changed:
            raise ImageError(f"{path} changed while it was read; it is read again when it rests")

    def marks(self) -> Mapping[str, str]:
        """Return {UID: size and time of its file}."""
        return {uid: self._marks[path] for uid, path in self._paths.items()}

    def _looked_at(self) -> Iterator[tuple[Path, str]]:
        for folder, folders, names in os.walk(self._folder):
            folders[:] = [each for each in folders if not each.startswith(".")]
            for name in names:
                path = Path(folder, name)
                try:
                    # What a link leads to was not brought here.
                    if name.startswith(".") or path.is_symlink() or not path.is_file():
                        continue
                    if is_dicom(path):
                        yield path, _mark(path)
                except OSError:  # gone meanwhile
                    continue

    def _identity(self, path: Path, mark: str, ledger: Ledger, *, final: bool) -> Identity | None:
        """Return which instance a file is; None, and a line in the ledger once it rests, where it is none."""
        found = self._known.get((path, mark))
        if found is None:
            try:
                found = identity_of(path)
            except ImageError as error:
                found = renamed(str(error.args[0]), self._key(path), path)
            if final:
                self._known[path, mark] = found
        if isinstance(found, Identity):
            return found
        if final:
            self._refuse(path, found, mark, ledger)
        return None

    def _refuse(self, path: Path, why: str, mark: str, ledger: Ledger) -> None:
        key = self._key(path)
        if not ledger.knows(key, mark):
            ledger.refuse(key, why, mark)

    def _key(self, path: Path) -> str:
        """Return what a file is called in the ledger."""
        return f"file {sha256([os.fsencode(path.relative_to(self._folder))], digits=12)}"


def _mark(path: Path) -> str:
    found = path.stat()
    return f"{found.st_size}-{found.st_mtime_ns}"
