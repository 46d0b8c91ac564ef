"""What all instances of ours have in common: whose they are, what they refer to, who made them, UIDs."""

from __future__ import annotations

import json
import random
import uuid
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from ttr.datasets.dicom.origin import Origin
from ttr.errors import OptionError
from ttr.version import __version__
from ttr.wording import MANUFACTURER, install

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

RESEARCH = "FOR RESEARCH USE ONLY"
#: Whose codes those are that no standard has.
SCHEME, SCHEME_NAME = "99TTR", "Test-time registers"
#: A plain image without a frame of reference; highdicom takes any origin in its place.
_STAND_IN = "1.2.840.10008.5.1.4.1.1.7"
_UTF8 = "ISO_IR 192"
#: Characters of a title, a name, a label: the standard's long string.
_LONG = 64
#: Under which names UIDs are made (RFC 9562, version 5); another one would make others of everything.
_NAMES = uuid.UUID("7a3c2c0e-5d0f-5b34-9d3b-6a1f5c3e9b10")


class NewUID(Protocol):
    """Call with what a UID is of, in words."""

    def __call__(self, *what: str) -> str:
        """Return a UID."""


def new_uids(generator: random.Random | None = None) -> NewUID:
    """Return what gives a new UID at each call, ``2.25.`` and a random UUID (PS3.5, B.2).

    ``generator``: its source; None: the system's own, so that no two runs share one.
    """
    source = generator or random.SystemRandom()
    return lambda *what: f"2.25.{uuid.UUID(int=source.getrandbits(128), version=4).int}"


def named_uids(made_with: str) -> NewUID:
    """Return what gives the same UID for the same thing, whenever it is asked (PS3.5, B.2; RFC 9562, 5.5).

    So an archive that was sent a thing twice holds it once, and can be asked whether it has it.

    ``made_with``: text that differs wherever the content could.
    """
    return lambda *what: f"2.25.{uuid.uuid5(_NAMES, json.dumps([made_with, *what])).int}"


def need(what: str, extra: str, *packages: str) -> None:
    """Raise OptionError where a package of an extra is not installed that something needs."""
    for package in packages:
        try:
            import_module(package)
        except ImportError:
            raise OptionError(
                f"{what} needs the package {package}, which is not installed; run: {install(extra)}"
            ) from None


@dataclass(frozen=True)
class Maker:
    """The model that made the values: its name, and the hash of its weights."""

    model: str
    weights: str

    def said(self) -> dict[str, Any]:
        """Return what an instance says of the equipment that made it."""
        return {
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": self.model[:_LONG],
            "software_versions": __version__,
            "device_serial_number": self.weights[:_LONG] or "unknown",
        }


@dataclass(frozen=True)
class Place:
    """The series that an instance belongs to, and its number in it.

    Attributes:
        series: UID.
        series_number: from 1 on.
        instance: UID.
        instance_number: from 1 on.
        description: of the series; that it is for research alone is added.
    """

    series: str
    series_number: int
    instance: str
    instance_number: int
    description: str

    def said(self) -> dict[str, Any]:
        """Return these as highdicom takes them."""
        return {
            "series_instance_uid": self.series,
            "series_number": self.series_number,
            "sop_instance_uid": self.instance,
            "instance_number": self.instance_number,
            "series_description": f"{self.description} - {RESEARCH}"[:_LONG],
        }


def which(origin: Origin) -> tuple[str, str]:
    """Return the names of an image: its instance, and which frame it is, from 1 on ("": the only one)."""
    return origin.instance, str(origin.frame or "")


def source_of(origin: Origin) -> Dataset:
    """Return the source as highdicom asks for it, with no more than results must say of it.

    It is a plain image whatever it was: of frames, and of kinds that highdicom does not know, it would ask
    for more than a map needs. :func:`finish` says what it was.
    """
    from pydicom.dataset import Dataset

    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = _STAND_IN, origin.instance
    data.StudyInstanceUID, data.SeriesInstanceUID = origin.study, origin.series
    data.Rows, data.Columns = origin.size
    data.SpecificCharacterSet = _UTF8
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"):
        setattr(data, keyword, "")
    for keyword in ("StudyID", "AccessionNumber", "StudyDate", "StudyTime", "ReferringPhysicianName"):
        setattr(data, keyword, None)
    if origin.frame_of_reference is not None:
        data.FrameOfReferenceUID = origin.frame_of_reference
    if origin.spacing is not None:
        data.PixelSpacing, data.SliceThickness = list(origin.spacing), origin.thickness
    if origin.position is not None and origin.orientation is not None:
        data.ImagePositionPatient = list(origin.position)
        data.ImageOrientationPatient = list(origin.orientation)
    for keyword, value in origin.lossy.items():
        setattr(data, keyword, value)
    return data


def finish(made: Dataset, origin: Origin) -> Dataset:
    """Let an instance name its source by kind and frame, and the patient where that was read; return it."""

    def name(data: Dataset, element: Any) -> None:
        if element.keyword == "ReferencedSOPInstanceUID" and element.value == origin.instance:
            data.ReferencedSOPClassUID = origin.kind
        elif element.keyword == "SourceImageSequence" and origin.frame is not None:
            for item in element.value:
                item.ReferencedFrameNumber = origin.frame

    if (
        "SourceImageSequence" in made
    ):  # whose items highdicom lets stand elsewhere, too, where no frame belongs
        made.SourceImageSequence = deepcopy(made.SourceImageSequence)
    made.walk(name)
    for keyword, value in origin.patient.items():
        setattr(made, keyword, value)
    return made


def code(value: str, meaning: str) -> Any:
    """Return a concept of our own: a code of 16 characters at most, and what it means in 64."""
    from highdicom.sr import CodedConcept

    return CodedConcept(value, SCHEME, meaning)


def schemes() -> list[Any]:
    """Return what an instance says of our own codes."""
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    return [
        CodingSchemeIdentificationItem(
            SCHEME, name=SCHEME_NAME, version=__version__, responsible_organization=MANUFACTURER
        )
    ]
