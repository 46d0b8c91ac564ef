"""Where a DICOM image belongs: its study, series and instance, its grid, and the patient where that is asked.

This is all that results in DICOM need of their source. It is read when they are asked for, and never else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ttr.datasets.dicom.elements import FileView
from ttr.datasets.dicom.files import addressed, is_dicom
from ttr.datasets.dicom.frames import parsed
from ttr.datasets.dicom.identity import is_uid
from ttr.datasets.dicom.pixels import frames_of
from ttr.datasets.dicom.tags import numbers, whole, word
from ttr.datasets.limits import MOST_PIXELS, image_file, no_memory
from ttr.datasets.quiet import quiet
from ttr.errors import ImageError

#: What a result in DICOM must say of its source, in the order of an origin's fields.
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_GRID = (
    *("Rows", "Columns", "NumberOfFrames", "PixelSpacing", "SliceThickness"),
    *("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "BurnedInAnnotation"),
    "InstanceNumber",
)
#: Who the patient is and which visit it was: what an archive compares before it files an image in a study.
PATIENT = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyID", "StudyDate", "StudyTime", "AccessionNumber"),
)
_BEFORE = {"DA": r"^(\d{4})\.(\d\d)\.(\d\d)$", "TM": r"^(\d\d):(\d\d):(\d\d(?:\.\d{1,6})?)$"}
#: How far from 1 directions may be long, and from 0 their product: as they stay, and as they can be mended.
_EXACT, _SLACK = 1e-5, 1e-3


@dataclass(frozen=True)
class Origin:
    """Where an image belongs.

    Attributes:
        study, series, instance: UIDs.
        kind: UID of its SOP class.
        size: rows and columns as stored.
        frame: which frame of its file, from 1 on; None: the file holds one image.
        number: of the instance in its series, from 1 on, or None.
        frame_of_reference: UID, or None.
        spacing: millimetres between rows and between columns, or None.
        thickness: of the slice in millimetres, or None.
        position: of the first pixel in the patient in millimetres, x, y, z, or None.
        orientation: direction cosines of rows and of columns in the patient, six, or None.
        burned_in: whether the file says that text is burnt into the pixels: ``YES``, ``NO``, or "".
        lossy: {keyword: value} of how it was compressed with loss, empty where it was not.
        patient: {keyword of :data:`PATIENT`: text}, empty unless it was asked for.
    """

    study: str
    series: str
    instance: str
    kind: str
    size: tuple[int, int]
    frame: int | None = None
    number: int | None = None
    frame_of_reference: str | None = None
    spacing: tuple[float, ...] | None = None
    thickness: float | None = None
    position: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    burned_in: str = ""
    lossy: Mapping[str, Any] = field(default_factory=dict)
    patient: Mapping[str, str] = field(default_factory=dict, repr=False)


def origin_of(path: Path, *, keep_patient: bool = False) -> Origin:
    """Return where a DICOM image belongs.

    Args:
        path: its file, or one of its frames (``cine.dcm#3``).
        keep_patient: whether the patient is read, too.

    Raises:
        ImageError: no DICOM image, no such frame, or one that does not say of which study, series and
            instance it is.
    """
    file, frame = addressed(path)
    if not is_dicom(file):
        raise ImageError(f"{path} is no DICOM file; needed one to write results in DICOM: leave --dicom out")
    with image_file(file) as stream:
        return origin_in(path, FileView(stream), frame, keep_patient=keep_patient)


def origin_in(
    path: Path, content: FileView | bytes, frame: int | None = None, *, keep_patient: bool = False
) -> Origin:
    """Return where the DICOM image in a file's bytes belongs; ``path`` names it in refusals.

    Args:
        path: a name.
        content: the bytes, or a view of them.
        frame: which one of the file, from 1 on; None: the file holds one image.
        keep_patient: whether the patient is read, too.

    Raises:
        ImageError: as :func:`origin_of`.
    """
    tags = (*_UIDS, *_GRID, *_LOSSY, *((*PATIENT, "SpecificCharacterSet") if keep_patient else ()))
    with quiet():
        try:
            _, data = parsed(path, content, MOST_PIXELS, frame or 1, tags)
            frames = frames_of(path, data)
            if not 1 <= (frame or 1) <= frames:
                raise ImageError(
                    f"{path} is no frame of its file, which holds {frames:,}; needed 1 to {frames:,}"
                )
            study, series, instance, kind = (_uid(path, data, keyword) for keyword in _UIDS)
            patient = {each: _text(path, data, each) for each in PATIENT} if keep_patient else {}
            shown = frame if frames > 1 else None
            return Origin(study, series, instance, kind, frame=shown, patient=patient, **_said(path, data))
        except MemoryError:
            raise no_memory(path) from None


def _said(path: Path, data: Any) -> dict[str, Any]:
    """Return what is said of the pixels and of their place; what is no place in a patient is left out."""
    spacing = _several(data, "PixelSpacing", 2)
    thickness, position = _several(data, "SliceThickness", 1), _several(data, "ImagePositionPatient", 3)
    orientation = _several(data, "ImageOrientationPatient", 6)
    known = _valid_uid(data, "FrameOfReferenceUID")
    if spacing is not None and min(spacing) <= 0:
        spacing = None
    placed = None not in (known, spacing, position, orientation) and _is_rigid(orientation)
    return {
        "size": (whole(path, data, "Rows", 0), whole(path, data, "Columns", 0)),
        "frame_of_reference": known,
        "spacing": spacing,
        "thickness": thickness[0] if thickness and thickness[0] > 0 else None,
        "position": position if placed else None,
        "orientation": _straightened(orientation) if placed else None,
        "number": _number(data),
        "burned_in": word(data, "BurnedInAnnotation"),
        "lossy": _lossy(data),
    }


def _is_rigid(orientation: Any, slack: float = _SLACK) -> bool:
    """Return whether the directions of rows and columns are of length 1 and at a right angle."""
    directions = np.reshape(orientation, (2, 3))
    return bool(np.abs(directions @ directions.T - np.eye(2)).max() < slack)


def _straightened(orientation: Any) -> tuple[float, ...]:
    """Return directions as they are or, where a few digits were written of them, made rigid."""
    if _is_rigid(orientation, _EXACT):
        return tuple(orientation)
    left, _, right = np.linalg.svd(np.reshape(orientation, (2, 3)), full_matrices=False)
    # As many digits as a decimal string has room for.
    return tuple(round(float(each), 12) for each in (left @ right).ravel())


def _several(data: Any, keyword: str, count: int) -> tuple[float, ...] | None:
    found = numbers(data, keyword)
    return tuple(found) if found is not None and len(found) == count else None


def _number(data: Any) -> int | None:
    found = _several(data, "InstanceNumber", 1)
    return int(found[0]) if found and 0 < found[0] < 2**31 else None


def _lossy(data: Any) -> dict[str, Any]:
    if word(data, _LOSSY[0]) != "01":
        return {}
    ratios, method = numbers(data, _LOSSY[1]), word(data, _LOSSY[2])
    # Of several compressions in a row the last; a file may not say how it was done.
    return {
        _LOSSY[0]: "01",
        **({_LOSSY[1]: ratios[-1]} if ratios else {}),
        **({_LOSSY[2]: method} if method.startswith("ISO_") and len(method) <= 16 else {}),
    }


def _uid(path: Path, data: Any, keyword: str) -> str:
    found = _valid_uid(data, keyword)
    if found is None:
        raise ImageError(
            f"{path} has no valid {keyword}; needed one to file results beside it: export it anew, or leave "
            "--dicom out"
        )
    return found


def _valid_uid(data: Any, keyword: str) -> str | None:
    try:
        value = data.get(keyword)
    except (TypeError, ValueError, NotImplementedError):
        return None
    return str(value) if is_uid(value) else None


def _text(path: Path, data: Any, keyword: str) -> str:
    """Return a text as it is written again; "" where there is none."""
    from pydicom.config import RAISE
    from pydicom.datadict import dictionary_VR
    from pydicom.valuerep import validate_value

    try:
        value = str(data.get(keyword) or "")
        if dictionary_VR(keyword) in _BEFORE:  # as files from before the standard write them (PS3.5, 6.2)
            value = re.sub(_BEFORE[dictionary_VR(keyword)], r"\1\2\3", value)
        validate_value(dictionary_VR(keyword), value, RAISE)
    except Exception:  # of any kind, on bytes that may be anything
        raise ImageError(
            f"{path} has a {keyword} as the standard has none; needed a valid one to keep it: correct it, or "
            "keep no patient"
        ) from None
    return value
