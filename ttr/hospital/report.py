"""Numbers of an image as a DICOM Structured Report: groups of measurements in the style of TID 1500."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ttr.datasets.dicom.origin import Origin
from ttr.hospital.instance import Maker, NewUID, Place, code, finish, schemes, source_of, which
from ttr.version import __version__
from ttr.wording import MANUFACTURER

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True)
class Number:
    """A measured number: its code and what it means, its value, and what is counted; "": it has no unit."""

    code: str
    meaning: str
    value: float
    counted: str = ""


@dataclass(frozen=True)
class Group:
    """What was measured of one model.

    Attributes:
        code, meaning: which model.
        numbers: those that are finite are reported.
        words: a question and its answer, a code and a meaning each.
    """

    code: str
    meaning: str
    numbers: Sequence[Number]
    words: Sequence[tuple[tuple[str, str], tuple[str, str]]]


def report(
    groups: Sequence[Group],
    parameters: Sequence[str],
    origin: Origin,
    maker: Maker,
    place: Place,
    new_uid: NewUID,
) -> Dataset:
    """Return measurements as a Comprehensive SR instance (PS3.16, TID 1500) beside its source.

    Args:
        groups: one a model, at least one.
        parameters: of the measurement, in words.
        origin: the source.
        maker: the model.
        place: the series.
        new_uid: of observer and groups.
    """
    from highdicom import sr
    from pydicom.sr.codedict import codes

    model = maker.said()["manufacturer_model_name"]
    observer = sr.DeviceObserverIdentifyingAttributes(
        new_uid("observer"), MANUFACTURER, MANUFACTURER, model, maker.weights or None
    )
    context = sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, observer))
    algorithm = sr.AlgorithmIdentification(MANUFACTURER, __version__, list(parameters))
    content = sr.MeasurementReport(
        context,
        codes.SCT.ImagingProcedure,
        [_group(group, algorithm, origin, new_uid("group", *which(origin), group.code)) for group in groups],
    )
    made = sr.ComprehensiveSR(
        [source_of(origin)],
        content,
        **place.said(),
        **maker.said(),
        is_complete=True,
        coding_schemes=schemes(),
    )
    return finish(made, origin)


def _group(group: Group, algorithm: Any, origin: Origin, uid: str) -> Any:
    from highdicom import sr

    return sr.MeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(uid, group.meaning),
        finding_type=code(group.code, group.meaning),
        algorithm_id=algorithm,
        measurements=[
            sr.Measurement(code(each.code, each.meaning), each.value, _unit(each.counted))
            for each in group.numbers
            if math.isfinite(each.value)
        ],
        qualitative_evaluations=[
            sr.QualitativeEvaluation(code(*question), code(*answer)) for question, answer in group.words
        ],
        source_images=[
            sr.SourceImageForMeasurementGroup(
                source_of(origin).SOPClassUID, origin.instance, [origin.frame] if origin.frame else None
            )
        ],
    )


def _unit(counted: str) -> Any:
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    return CodedConcept(f"{{{counted}}}", "UCUM", counted) if counted else codes.UCUM.NoUnits
