"""Image files in an order, each opened when it is asked for: alone, or read ahead in threads.

Nothing here keeps an image: a set of any size passes with a few of them in memory.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttr.datasets.dicom.files import addressed, frame_path, frame_paths, image_bytes
from ttr.datasets.dicom.reading import NOTES
from ttr.datasets.folder import draw_sample, list_images, open_image
from ttr.datasets.quiet import say
from ttr.digests import sha256
from ttr.errors import ImageError
from ttr.run import Run
from ttr.wording import counted

if TYPE_CHECKING:
    from PIL.Image import Image


def in_memory(images: Mapping[str, Image]) -> OpenedImages:
    """Return images that are open already, by name."""
    return OpenedImages(list(images), images.__getitem__, lambda name: sha256([images[name].tobytes()]))


def bad_image(name: str, reason: str) -> ImageError:
    """Return the refusal of an image that cannot be read, with its name and what to do about it."""
    said = reason if name in reason else f"{reason} ({name})"
    return ImageError(f"{said}; leave bad images out with --on-error skip")


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        ImageError: it cannot be read.
    """
    return sha256([image_bytes(path)])


@dataclass(frozen=True)
class ImageFile:
    """An image file, and what results call it: its path below the folder that was asked for, or a number."""

    name: str
    path: Path


def folder_images(
    folder: Path, *, limit: int | None = None, seed: int = 42, anonymous: bool = False
) -> OpenedImages:
    """Return the images under a folder by their paths below it, sorted; with ``limit``, a seeded sample.

    A DICOM file of several frames counts as its frames, in their order: ``cine.dcm#1``, ``cine.dcm#2``, ...

    ``anonymous``: by their places in the whole folder instead, ``image 1``, ``image 2``, ...

    Raises:
        ImageError: no such folder, or no image in it.
    """
    files = _named(((_below(path, folder), path) for path in list_images(folder)), anonymous)
    return _opened(draw_sample(files, limit, seed))


def given_images(given: Iterable[Path], *, frame: int | None = None, anonymous: bool = False) -> OpenedImages:
    """Return files that were named one by one, and those in named folders, in the order given.

    A file is called by its name alone, one of a folder by its path below it; what would stand twice is
    numbered. ``anonymous``: ``image 1``, ``image 2``, ... instead. Of a DICOM file of several frames come all
    of them, or the one that its name says (``cine.dcm#3``), or ``frame``, counted from 1, of every file.

    Raises:
        ImageError: one of them does not exist, or a folder has no image in it.
    """
    found: list[tuple[str, Path]] = []
    for path in given:
        file, named = addressed(path)
        if not file.exists():
            raise ImageError(f"image {path} does not exist; check the path")
        below = list_images(path) if path.is_dir() else [path] if named else frame_paths(path)
        if frame is not None:
            below = list(dict.fromkeys(frame_path(addressed(each)[0], frame) for each in below))
        if not path.is_dir() and (frame or named or 1) > len(frame_paths(file)):
            image_bytes(below[0])  # which says what is wrong with it, before anything heavy
        found += [(_below(each, path) if path.is_dir() else each.name, each) for each in below]
    return _opened(_named(found, anonymous))


def _below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _named(found: Iterable[tuple[str, Path]], anonymous: bool) -> list[ImageFile]:
    files: list[ImageFile] = []
    seen: Counter[str] = Counter()
    for number, (name, path) in enumerate(found, start=1):
        seen[name] += 1
        again = f" ({seen[name]})" if seen[name] > 1 else ""
        files.append(ImageFile(f"image {number}" if anonymous else name + again, path))
    return files


def _opened(files: list[ImageFile]) -> OpenedImages:
    return OpenedImages(files, _open, _hash, attrgetter("name"))


def _open(file: ImageFile) -> Image:
    with called(file.name, file.path):
        return remarked(file.name, open_image(file.path))


def remarked(name: str, image: Image) -> Image:
    """Return an image, and say what must be said of it."""
    for note in image.info.get(NOTES, ()):
        say(f"{name}: {note}")
    return image


def _hash(file: ImageFile) -> str:
    with called(file.name, file.path):
        return file_hash(file.path)


@contextmanager
def called(name: str, path: Path | None) -> Iterator[None]:
    """Let refusals within call a file by its name, never by its path: results carry them to other people.

    The error that a refusal was made of is let go with it, since its text holds the path, too.
    """
    try:
        yield
    except ImageError as error:
        # As it was written: what is shown is cut and made printable, and so is a path in it.
        said = str(error.args[0])
        raise ImageError(said if path is None else renamed(said, name, path)) from None


def renamed(said: str, name: str, path: Path) -> str:
    """Return a sentence with a name in place of a file's path, its folder and its own name included."""
    forms = {str(path), str(path.absolute()), str(path.absolute().parent)}
    # A file without a suffix may be called as a word is that stands in any sentence.
    forms |= {path.name} if path.suffix else set()
    forms |= {form for each in forms for form in (str(ImageError(each)), repr(each)[1:-1])}
    longest_first = sorted(forms - {"/", ""}, key=len, reverse=True)
    # A refusal begins "image PATH ..."; a name such as "image 3" or "the mask of ..." says what it is itself.
    before = "(?:image )?" if name.startswith(("image ", "the ")) else ""
    place = rf"{before}(?<![\w/])(?:{'|'.join(map(re.escape, longest_first))})(?!\w)"
    return re.sub(place, lambda _: name, said)


@dataclass(frozen=True)
class OpenedImages:
    """A sized iterable that opens one image at a time, so that a set of them never stands in memory.

    Attributes:
        closed: files, or items of a labelled set, in order.
        opener: one of them -> RGB image; raises ImageError.
        hashed: one of them -> hash of the bytes that decide its pixels; raises ImageError.
        named: one of them -> its name.
        words: what they are, for people: "aptos, training split, 200 of 2,930 images, seed 42".
    """

    closed: Sequence[Any]
    opener: Callable[[Any], Image] = field(default=open_image, repr=False)
    hashed: Callable[[Any], str] = field(default=file_hash, repr=False)
    named: Callable[[Any], str] = field(default=str, repr=False)
    words: str | None = None

    def __len__(self) -> int:
        return len(self.closed)

    def __iter__(self) -> Iterator[Image]:
        return map(self.opener, self.closed)

    def take(self, places: Sequence[int]) -> OpenedImages:
        """Return those at some places of the order, without the words for the whole."""
        return replace(self, closed=[self.closed[place] for place in places], words=None)

    @property
    def names(self) -> list[str]:
        """Their names, in order."""
        return [self.named(each) for each in self.closed]

    def hashes(self) -> list[str]:
        """Return the hash of each, or, where it cannot be read, a text that no content has."""
        return [self._hash(each) for each in self.closed]

    def _hash(self, each: Any) -> str:
        try:
            return self.hashed(each)
        except ImageError:
            return f"unreadable {self.named(each)}"


@dataclass
class ReadAhead:
    """Images as a run reads them: ``workers`` threads ahead, bad ones named or left out. Sized, iterable.

    One reader at a time: names and skipped ones are those of the pass that is on the way.

    Attributes:
        images: the images.
        run: its workers, and what a bad image does.
        names: of those that were read, in order; it grows as they are.
        skipped: {name: reason} of those that could not be read, with ``on_error="skip"``.
    """

    images: OpenedImages
    run: Run
    names: list[str] = field(default_factory=list, repr=False)
    skipped: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Image]:
        """Yield the images that can be read, from the first one on.

        Raises:
            ImageError: a bad image, with ``on_error="raise"``, or not a single readable one.
        """
        self.names.clear()
        self.skipped.clear()
        for each, opened in self._opened():
            try:
                image = opened.result()
            except ImageError as error:
                if self.run.on_error == "raise":
                    raise bad_image(self.images.named(each), str(error)) from error
                self.skipped[self.images.named(each)] = str(error)
                continue
            self.names.append(self.images.named(each))
            yield image
        if self.skipped and not self.names:
            first = next(iter(self.skipped.values()))
            raise ImageError(
                f"not one of {counted(len(self.skipped), 'image')} could be read; the first: {first}"
            )

    def _opened(self) -> Iterator[tuple[Any, Future[Image]]]:
        """Yield each with its image on the way; at most ``workers`` more are waiting behind it."""
        pending: deque[tuple[Any, Future[Image]]] = deque()
        with ThreadPoolExecutor(self.run.workers) as pool:
            try:
                for each in self.images.closed:
                    pending.append((each, pool.submit(self.images.opener, each)))
                    if len(pending) > self.run.workers:
                        yield pending.popleft()
                while pending:
                    yield pending.popleft()
            finally:
                for _, future in pending:
                    future.cancel()
