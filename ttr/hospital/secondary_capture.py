"""A map over its picture as a DICOM Secondary Capture: for every viewer that shows no Parametric Map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ttr.datasets.dicom.origin import Origin
from ttr.drawing import maps
from ttr.hospital.instance import RESEARCH, Maker, Place, finish, schemes, source_of
from ttr.wording import DISCLAIMER, shortened

if TYPE_CHECKING:
    from PIL.Image import Image
    from pydicom.dataset import Dataset

#: Longer side of the picture in pixels, at least and at most: what is burnt in must be read.
SMALLEST, LARGEST = 640, 1024
#: Lines of text that a longer side would hold, and lines that the longest line of text is wide.
LINES, WIDEST = 32, 24
#: Of the largest value; 0 is transparent.
OPACITY = 0.75
INK, SHADOW = (255, 255, 255), (0, 0, 0)


def captured_size(width: int, height: int) -> tuple[int, int]:
    """Return height and width of the picture in a capture, for one of width and height."""
    longer = max(width, height)
    scale = min(max(longer, SMALLEST), LARGEST) / longer
    return max(1, round(height * scale)), max(1, round(width * scale))


def capture(
    picture: Image, values: np.ndarray, high: float, colours: str, title: str, model: str
) -> np.ndarray:
    """Return a map over a picture, with its scale below and its use burnt in, uint8 [H, W, 3].

    Args:
        picture: RGB, of the shape of its source with square pixels.
        values: [h, w] of :func:`captured_size`; negative where the model did not see, outside of a line.
        high: value of the last colour; the scale begins at 0.
        colours: name of a matplotlib colour map.
        title: what is shown.
        model: whose map it is.
    """
    from PIL import Image, ImageDraw

    height, width = values.shape
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    line = max(height, width) // LINES
    sheet = Image.new("RGB", (max(width, WIDEST * line), height + 5 * line))
    sheet.paste(Image.fromarray(_laid_over(pixels, values, high, colours)))
    bar = maps.colourise(np.linspace(0, high, 8 * line)[None], high, colours, (line // 2, 8 * line))
    sheet.paste(Image.fromarray(bar), (2 * line, height + round(1.75 * line)))
    draw, left = ImageDraw.Draw(sheet), line // 2
    _write(draw, (left, left), RESEARCH, line)
    for row, text in enumerate((title, "0", shortened(model), DISCLAIMER)):
        _write(draw, (left, height + round((row + 0.5) * line)), text, line)
    _write(draw, (round(10.5 * line), height + round(1.5 * line)), f"{high:.3g}", line)
    return np.asarray(sheet)


def _laid_over(pixels: np.ndarray, values: np.ndarray, high: float, colours: str) -> np.ndarray:
    """Return a picture that a map covers the more the larger its values, with a line around what was seen."""
    share = OPACITY * np.clip(values / (high or 1.0), 0, 1)[..., None]
    shown = (1 - share) * pixels + share * maps.colourise(values, high, colours, values.shape)
    shown = shown.round().astype(np.uint8)
    if (values < 0).any():
        shown[maps.rim(values >= 0)] = maps.LINE
    return shown


def secondary_capture(pixels: np.ndarray, origin: Origin, maker: Maker, place: Place) -> Dataset:
    """Return a picture as a Secondary Capture Image Storage instance (PS3.3, A.8.1) beside its source.

    Args:
        pixels: uint8 [H, W, 3]. They have no spacing: nobody shall measure on them.
        origin: the source.
        maker: the model.
        place: the series.
    """
    from highdicom.sc import SCImage
    from pydicom.dataset import Dataset

    made = SCImage(
        np.ascontiguousarray(pixels),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        # highdicom will have one; which it is, the picture does not know.
        patient_orientation=("L", "P"),
        study_instance_uid=origin.study,
        specific_character_set=source_of(origin).SpecificCharacterSet,
        coding_schemes=schemes(),
        **place.said(),
        **maker.said(),
    )
    made["PatientOrientation"].value = None
    made.add_new("Laterality", "CS", None)
    made.DerivationDescription = f"Map over its source image. {DISCLAIMER}"
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = origin.kind, origin.instance
    made.SourceImageSequence = [source]
    made.ImageComments = DISCLAIMER
    if origin.burned_in in ("YES", "NO"):
        made.BurnedInAnnotation = origin.burned_in
    for keyword, value in origin.lossy.items():
        setattr(made, keyword, value)
    return finish(made, origin)


def _write(draw: Any, place: tuple[int, int], text: str, line: int) -> None:
    from PIL import ImageFont

    # The outline keeps the words readable on any picture.
    font = ImageFont.load_default(size=round(0.8 * line))
    draw.text(place, text, fill=INK, font=font, stroke_width=max(1, line // 12), stroke_fill=SHADOW)
