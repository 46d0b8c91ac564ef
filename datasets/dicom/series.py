"""Where the frames of a DICOM file stand in their series: what orders a stack, and how fast a film runs.

A series is told from another by a digest of its UID. No text of the file is kept, and no patient tag is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ttr.datasets.dicom.elements import PER_FRAME, FileView
from ttr.datasets.dicom.frames import parsed
from ttr.datasets.dicom.pixels import aspect, frames_of
from ttr.datasets.dicom.reading import MODALITIES
from ttr.datasets.dicom.tags import numbers, whole, word
from ttr.datasets.limits import MOST_PIXELS, check_size
from ttr.datasets.quiet import quiet
from ttr.digests import sha256
from ttr.errors import ImageError

_PLACE = ("ImagePositionPatient", "ImageOrientationPatient")
_TAGS = (
    *("SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "Modality", *_PLACE),
    *("Rows", "Columns", "NumberOfFrames", "PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"),
    *("RecommendedDisplayFrameRate", "CineRate", "FrameTime"),
)
#: Frames a second that a film may ask for.
SLOWEST, FASTEST = 0.2, 60.0
#: How far two direction cosines of one orientation may be apart.
_SLACK = 1e-3


@dataclass(frozen=True)
class Member:
    """What a file says of its place in a series.

    Attributes:
        series: digest of the series' UID, "" where there is none.
        number: of the series, or None.
        modality: CT, MR, ..., or "".
        size: columns and rows.
        aspect: height of a pixel over its width.
        frames: how many images it holds.
        instance: number of the file in its series, or None.
        orientation: direction cosines of rows and columns, six, the same for all frames; or None.
        positions: of each frame's first pixel in the patient, millimetres; empty where one has none.
        rate: frames a second that the file recommends, or None.
    """

    series: str
    number: int | None
    modality: str
    size: tuple[int, int]
    aspect: float
    frames: int
    instance: int | None = None
    orientation: tuple[float, ...] | None = None
    positions: tuple[tuple[float, ...], ...] = ()
    rate: float | None = None


def member(name: object, content: bytes | FileView, most_frames: int) -> Member:
    """Return where a DICOM file stands in its series; nothing is decoded.

    Raises:
        ImageError: no DICOM image, too many pixels, or more than ``most_frames``.
    """
    with quiet():
        found, data = parsed(name, content, MOST_PIXELS, 1, _TAGS)
        frames = frames_of(name, data)
        if frames > most_frames:
            raise ImageError(f"{name} holds {frames:,} frames; needed {most_frames:,} at most: export fewer")
        size = whole(name, data, "Columns", 0), whole(name, data, "Rows", 0)
        check_size(name, *size)
        said = [data]
        if frames > 1 and PER_FRAME in found.spans:
            said += [parsed(name, content, MOST_PIXELS, n, _TAGS)[1] for n in range(2, frames + 1)]
        orientation, positions = _places(said) if len(said) == frames else (None, ())
        uid, modality = word(data, "SeriesInstanceUID"), word(data, "Modality")
        return Member(
            series=sha256([uid.encode()])[:20] if uid else "",
            number=_whole(data, "SeriesNumber"),
            modality=modality if modality in MODALITIES else "",
            size=size,
            aspect=round(aspect(name, data), 2),
            frames=frames,
            instance=_whole(data, "InstanceNumber"),
            orientation=orientation,
            positions=positions,
            rate=_rate(data),
        )


def distances(members: Sequence[Member]) -> list[list[float]] | None:
    """Return how far each frame of each file lies along the normal of the slices, in millimetres.

    None where the files do not say it of all frames, lie at different angles, or all in one place.
    """
    if not members or any(len(each.positions) != each.frames for each in members):
        return None
    angles = [each.orientation for each in members]
    if angles[0] is None or not all(each is not None and _alike(each, angles[0]) for each in angles):
        return None
    normal = np.cross(angles[0][:3], angles[0][3:])
    found = [[float(np.dot(place, normal)) for place in each.positions] for each in members]
    along = [value for each in found for value in each]
    return found if max(along) - min(along) > _SLACK else None


def _places(said: Sequence[Any]) -> tuple[tuple[float, ...] | None, tuple[tuple[float, ...], ...]]:
    positions, angles = ([numbers(data, keyword) for data in said] for keyword in _PLACE)
    if any(each is None or len(each) != 3 for each in positions):
        return None, ()
    if any(each is None or len(each) != 6 or not _alike(each, angles[0]) for each in angles):
        return None, ()
    return tuple(angles[0] or ()), tuple(tuple(each or ()) for each in positions)


def _alike(one: Sequence[float] | None, other: Sequence[float] | None) -> bool:
    return bool(np.allclose(np.asarray(one), np.asarray(other), rtol=0, atol=_SLACK))


def _whole(data: Any, keyword: str) -> int | None:
    found = numbers(data, keyword)
    return int(found[0]) if found and len(found) == 1 and abs(found[0]) < 1e9 else None


def _rate(data: Any) -> float | None:
    """Return frames a second; what is recommended goes before what was taken."""
    for keyword in ("RecommendedDisplayFrameRate", "CineRate", "FrameTime"):
        found = numbers(data, keyword)
        if found and found[0] > 0:
            rate = 1000 / found[0] if keyword == "FrameTime" else found[0]
            return min(max(rate, SLOWEST), FASTEST)
    return None
