"""A map as a DICOM Parametric Map: the numbers themselves, float32, on the grid of the image they are of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ttr.datasets.dicom.origin import Origin
from ttr.hospital.instance import Maker, Place, code, finish, schemes, source_of

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
    values: np.ndarray, quantity: Quantity, high: float, origin: Origin, maker: Maker, place: Place
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
    """
    from highdicom import VOILUTTransformation
    from highdicom.pm import ParametricMap, RealWorldValueMapping
    from pydicom.sr.codedict import codes

    top = max(float(values.max()), high) or 1.0
    mapping = RealWorldValueMapping(
        lut_label=quantity.label,
        lut_explanation=quantity.meaning,
        unit=codes.UCUM.NoUnits,
        value_range=(0.0, top),
        quantity_definition=code(quantity.code, quantity.meaning),
    )
    made = ParametricMap(
        [_placed(origin)],
        values,
        **place.said(),
        **maker.said(),
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[VOILUTTransformation(window_center=top / 2, window_width=top)],
        content_label=quantity.label,
        content_description=quantity.meaning,
        coding_schemes=schemes(),
    )
    made.FloatPixelPaddingValue = UNSEEN
    if origin.position is None:
        _take_place_out(made, origin, quantity.label)
    return finish(made, origin)


def _placed(origin: Origin) -> Dataset:
    """Return the source somewhere in a patient: without a place, highdicom makes no Parametric Map."""
    source = source_of(origin)
    if origin.position is None:
        source.FrameOfReferenceUID = origin.frame_of_reference or origin.series
        source.ImagePositionPatient, source.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
        source.PixelSpacing, source.SliceThickness = list(origin.spacing or (1, 1)), origin.thickness
    return source


def _take_place_out(made: Dataset, origin: Origin, label: str) -> None:
    """Leave of the place only what the source says: nobody may take the rest for true."""
    from pydicom.datadict import tag_for_keyword

    shared, each = made.SharedFunctionalGroupsSequence[0], made.PerFrameFunctionalGroupsSequence[0]
    del shared.PlaneOrientationSequence, each.PlanePositionSequence
    if origin.spacing is None:
        del shared.PixelMeasuresSequence
    if origin.frame_of_reference is None:
        del made.FrameOfReferenceUID, made.PositionReferenceIndicator
    each.FrameContentSequence[0].FrameLabel = label
    index = made.DimensionIndexSequence[0]
    index.DimensionIndexPointer = tag_for_keyword("FrameLabel")
    index.FunctionalGroupPointer = tag_for_keyword("FrameContentSequence")
    index.DimensionDescriptionLabel = "Frame Label"
