"""What a visitor's file becomes before a model sees it: a picture, and what must be said of it.

A file is judged by its bytes, never by its name, and decoded by a reader that time and memory end
(:mod:`ttr.apps.image.readers`). A refusal is one sentence without a path, since it is shown on a page.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ttr.apps.image.decoding import NAME
from ttr.apps.image.readers import READERS
from ttr.apps.image.uploads import content_of
from ttr.datasets.dicom.origin import Origin
from ttr.datasets.dicom.radiograph import Radiograph, Window
from ttr.datasets.registry import sample_paths
from ttr.digests import sha256
from ttr.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_BYTES = 25 * 1024 * 1024
#: Bytes of a file that holds several images.
MOST_OF_STACK = 256 * 1024 * 1024
MIN_SIDE = 16
BURNT_IN = "The file says that text is burnt into its pixels: it may name the patient, and the model sees it."
NOT_SAID = "The file does not say whether text is burnt into its pixels; look before you share an export."
BLANK = "In this window all of its values ({:g} to {:g}) are one grey; choose another to see the image."
#: For a CT that brings no window of its own, in Hounsfield units.
CT_WINDOWS = (
    Window("lung", -600, 1500),
    Window("soft tissue", 40, 400),
    Window("bone", 400, 1800),
    Window("brain", 40, 80),
)


@dataclass(frozen=True)
class SliceOf:
    """Which slice of a stack a picture is.

    Attributes:
        stack: the stack's identity.
        index: its place, from 0 on.
        of: how many slices there are.
        frame: of its file, from 1 on; None: the file holds one image.
    """

    stack: str
    index: int
    of: int
    frame: int | None = None

    def identity(self, window: Window | None) -> str:
        """Return what this slice is called where it is shown in a window (None: its first)."""
        shown = None if window is None else (window.center, window.width)
        return sha256([repr((self.stack, self.index, shown)).encode()])[:20]


@dataclass(frozen=True, eq=False)
class Picture:
    """One image as it is shown and as the models get it.

    Attributes:
        image: RGB, upright, square pixels.
        kind: ``"DICOM"`` or the picture format (``"PNG"``).
        sha256: of the file's bytes.
        notes: sentences that must stand beside it.
        radiograph: the DICOM image behind it, or None.
        window: the window it is shown in; None: the first, or no DICOM.
        name: what the visitor calls it, shown beside its maps and written into exports; never logged.
        slice: which one of a stack it is, or None.
        origin: the DICOM study, series and instance that it is of, without its patient, or None.
    """

    image: Image
    kind: str
    sha256: str
    notes: tuple[str, ...] = ()
    radiograph: Radiograph | None = None
    window: Window | None = None
    name: str = ""
    slice: SliceOf | None = None
    origin: Origin | None = None

    @property
    def windows(self) -> tuple[Window, ...]:
        """The windows to choose from: the file's own, and the usual ones of a CT."""
        if self.radiograph is None or self.radiograph.values.ndim == 3:
            return ()
        return (*self.radiograph.windows, *(CT_WINDOWS if self.radiograph.modality == "CT" else ()))

    def in_window(self, window: Window | None) -> Picture:
        """Return the same image in another window (None: the file's first).

        Raises:
            ImageError: no DICOM image, or a window of no width.
        """
        if self.radiograph is None:
            raise ImageError("only a DICOM image has a window; this one is shown as it is")
        if window is not None and not (window.width > 0 and abs(window.center) < 1e9 > window.width):
            raise ImageError("a window needs a width above 0, and a centre and width below 1e9")
        notes = notes_of(self.radiograph, window)
        return replace(self, image=self.radiograph.image(window), window=window, notes=notes)


def take_in(path: str | Path) -> Picture:
    """Read a visitor's file of a single image.

    Raises:
        ImageError: not there, no regular file, too large, too many pixels, no image, damaged, or a DICOM file
            that cannot be decoded.
    """
    return replace(take_in_bytes(content_of(path, MAX_BYTES, NAME)), name=Path(path).name)


def sample(name: str) -> Picture:
    """Return a bundled image by its name."""
    return replace(take_in_bytes(sample_paths()[name].read_bytes()), name=f"sample: {name}")


def take_in_bytes(content: bytes) -> Picture:
    """Read the bytes of a visitor's file; refusals are :func:`take_in`'s."""
    digest = sha256([content])
    found = READERS.decode(content)
    if min(found.image.size) < MIN_SIDE:
        width, height = found.image.size
        raise ImageError(f"{NAME} has {width} × {height} pixels; needed {MIN_SIDE} on each side at least")
    notes = notes_of(found.radiograph)
    return Picture(found.image, found.kind, digest, notes, found.radiograph, origin=found.origin)


def notes_of(found: Radiograph | None, window: Window | None = None) -> tuple[str, ...]:
    """Return what must be said of an image in a window; None: as it is shown first."""
    if found is None:
        return ()
    notes = {True: (BURNT_IN,), None: (NOT_SAID,), False: ()}[found.burned_in]
    if abs(found.aspect - 1) > 0.01:
        notes += (f"Its pixels are not square ({found.aspect:.2f} : 1); the picture is stretched to scale.",)
    if window is None:
        return notes + found.notes
    return (*notes, BLANK.format(*found.range)) if found.is_blank(window) else notes
