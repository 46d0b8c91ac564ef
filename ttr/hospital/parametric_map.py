"""A map as a DICOM Parametric Map: the numbers themselves, float32, on the grid of the image they are of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ttr.datasets.dicom.origin import Origin
from ttr.hospital.instance import Maker, Place, code, finish, schemes, source_of
from ttr.wording import DISCLAIMER

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

#: Value of pixels that the model did not see: no number may be absent, and no quantity here is negative.
UNSEEN = -1.0


@dataclass(frozen=True)
class Quantity:
    """What a map shows.

    Attributes:
        code: of 16 characters at most.
        meaning: in words, of 64 characters at most.
        label: of 16 characters at most, capitals.
        colours: name of a matplotlib colour map.
    """

    code: str
    meaning: str
    label: str
    colours: str


def parametric_map(
    values: np.ndarray,
    quantity: Quantity,
    high: float,
    origin: Origin,
    maker: Maker,
    place: Place,
    frame_of_reference: str,
) -> Dataset:
    """Return a map as a Parametric Map Storage instance (PS3.3, A.75) beside its source.

    Args:
        values: float32 [rows, columns] on the source's grid, >= 0, or :data:`UNSEEN`, which becomes the
            Float Pixel Padding Value.
        quantity: what they are; they have no unit.
        high: end of the window 0..``high`` in which viewers show it first.
        origin: the source.
        maker: the model.
        place: the series.
        frame_of_reference: UID: the source's, or a new one where it has none.
    """
    from highdicom.pm import ParametricMap

    high = high or 1.0
    made = ParametricMap(
        [_placed(origin, frame_of_reference)],
        values,
        **place.said(),
        **maker.said(),
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_meaning(quantity, max(high, float(values.max())))],
        voi_lut_transformations=[_window(high)],
        content_label=quantity.label,
        content_description=quantity.meaning,
        coding_schemes=schemes(),
    )
    made.FloatPixelPaddingValue = made.FloatPixelPaddingRangeLimit = UNSEEN
    made.add_new("Laterality", "CS", None)
    made.ImageComments = f"{DISCLAIMER} {UNSEEN:g}: the model did not see this pixel."
    _say_only_what_is_known(made, origin, quantity.label)
    return finish(made, origin)


def _meaning(quantity: Quantity, top: float) -> Any:
    """Return what stored values 0..``top`` mean: themselves."""
    from highdicom.pm import RealWorldValueMapping
    from pydicom.sr.codedict import codes

    return RealWorldValueMapping(
        lut_label=quantity.label,
        lut_explanation=quantity.meaning,
        unit=codes.UCUM.NoUnits,
        value_range=(0.0, top),
        quantity_definition=code(quantity.code, quantity.meaning),
    )


def _window(high: float) -> Any:
    from highdicom import VOILUTTransformation

    # The plain linear function is one of whole numbers: it has no window narrower than 1.
    return VOILUTTransformation(high / 2, high, voi_lut_function="LINEAR_EXACT")


def _placed(origin: Origin, frame_of_reference: str) -> Dataset:
    """Return the source somewhere in a patient: without a place, highdicom makes no Parametric Map."""
    source = source_of(origin)
    source.FrameOfReferenceUID = frame_of_reference
    if origin.position is None:
        source.ImagePositionPatient, source.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
        source.PixelSpacing, source.SliceThickness = list(origin.spacing or (1, 1)), origin.thickness
    return source


def _say_only_what_is_known(made: Dataset, origin: Origin, label: str) -> None:
    """Leave of spacing and place what the source says: nobody may take the rest for true."""
    from pydicom.datadict import tag_for_keyword

    shared, each = made.SharedFunctionalGroupsSequence[0], made.PerFrameFunctionalGroupsSequence[0]
    measures = shared.PixelMeasuresSequence[0]
    known = {"PixelSpacing": origin.spacing, "SliceThickness": origin.thickness, "SpacingBetweenSlices": None}
    for keyword, value in known.items():
        if value is None:
            measures.pop(keyword, None)
    if origin.position is not None:
        return
    del shared.PlaneOrientationSequence, each.PlanePositionSequence
    each.FrameContentSequence[0].FrameLabel = label
    index = made.DimensionIndexSequence[0]
    index.DimensionIndexPointer = tag_for_keyword("FrameLabel")
    index.FunctionalGroupPointer = tag_for_keyword("FrameContentSequence")
    index.DimensionDescriptionLabel = "Frame Label"
