"""What the elements of a DICOM file say, though they may be empty, or words in place of numbers."""

from __future__ import annotations

import math
from typing import Any

from ttr.errors import ImageError

_PALETTE = [
    f"{segmented}{colour}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for segmented, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
]
#: What decides the pixels and what must be said of them, and no more.
TAGS = [
    *("Rows", "Columns", "NumberOfFrames", "PixelData", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "PixelRepresentation"),
    *("BitsAllocated", "BitsStored", "HighBit", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction", "VOILUTSequence"),
    *("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio", "BurnedInAnnotation", "Modality"),
    *("ExtendedOffsetTable", *_PALETTE),
]


def numbers(data: Any, keyword: str) -> list[float] | None:
    """Return the finite numbers of an element; [] where it is empty or absent, None where it holds others."""
    try:
        value = data.get(keyword)
        if value is None or (isinstance(value, str | bytes) and not value.strip()):
            return []
        several = value if isinstance(value, list | tuple) or hasattr(value, "append") else [value]
        found = [float(each) for each in several]
    except (TypeError, ValueError, ArithmeticError, NotImplementedError):
        return None
    return found if all(map(math.isfinite, found)) else None


def number(name: object, data: Any, keyword: str, default: float) -> float:
    """Return the number of an element, or the default where it is empty or absent.

    Raises:
        ImageError: it holds words, several numbers, or infinite ones.
    """
    found = numbers(data, keyword)
    if found is None or len(found) > 1:
        raise ImageError(
            f"{name} has no single number as its {keyword}; needed one: correct it, or remove it"
        )
    return found[0] if found else default


def whole(name: object, data: Any, keyword: str, default: int) -> int:
    """Return the whole number of an element; refusals are :func:`number`'s."""
    return int(number(name, data, keyword, default))


def word(data: Any, keyword: str) -> str:
    """Return a text in capitals without spaces around it; nothing where it is absent or no text."""
    try:
        value = data.get(keyword)
    except (TypeError, ValueError, NotImplementedError):
        return ""
    return value.strip().upper() if isinstance(value, str) else ""
