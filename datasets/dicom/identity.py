"""Which instance a DICOM file is, of any kind: its UIDs, and whether ttr made it. Nothing of the patient."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ttr.datasets.dicom.elements import FileView, essential
from ttr.datasets.dicom.frames import OTHER_BYTES
from ttr.datasets.limits import MOST_BYTES_A_PIXEL, MOST_PIXELS, image_file, no_memory
from ttr.errors import ImageError
from ttr.wording import MANUFACTURER

_UIDS = {0x0020000D: "StudyInstanceUID", 0x0020000E: "SeriesInstanceUID", 0x00080018: "SOPInstanceUID"}
_MANUFACTURER = 0x00080070
#: The library's own check lets a line end behind it.
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")


@dataclass(frozen=True)
class Identity:
    """Study, series and instance by UID, and whether ttr made it."""

    study: str
    series: str
    instance: str
    ours: bool


def identity_of(path: Path) -> Identity:
    """Return which instance a file is, as its tags say; pixels are stepped over.

    Raises:
        ImageError: it is no DICOM file that can be read, or has no valid UIDs.
    """
    with image_file(path) as stream:
        try:
            most = MOST_BYTES_A_PIXEL * MOST_PIXELS + OTHER_BYTES
            found = essential(path, FileView(stream), {*_UIDS, _MANUFACTURER}, most)
            said = {tag: found.value(tag).strip(b"\0 ") for tag in (*_UIDS, _MANUFACTURER)}
        except MemoryError:
            raise no_memory(path) from None
    uids = {tag: said[tag].decode("ascii", "replace") for tag in _UIDS}
    for tag, keyword in _UIDS.items():
        if not is_uid(uids[tag]):
            raise ImageError(f"{path} has no valid {keyword}; needed one to know it by: export it anew")
    study, series, instance = uids.values()
    return Identity(study, series, instance, said[_MANUFACTURER] == MANUFACTURER.encode())


def is_uid(text: object) -> bool:
    """Return whether something is a valid UID (PS3.5, 9.1)."""
    return isinstance(text, str) and len(text) <= 64 and _UID.fullmatch(text) is not None
