"""What the pixels of a DICOM file would unpack to, known from its numbers before a decoder sees them."""

from __future__ import annotations

from typing import Any

from ttr.datasets.dicom.compressed import Measures
from ttr.datasets.dicom.tags import numbers, whole, word
from ttr.datasets.limits import check_size
from ttr.errors import ImageError

NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
GREY = ("MONOCHROME1", "MONOCHROME2")
PALETTE_COLOUR, HALF = "PALETTE COLOR", "YBR_FULL_422"
#: Colours that only a decoder of JPEG 2000 makes others of.
WAVELET = ("YBR_ICT", "YBR_RCT")
COLOURS = ("RGB", "YBR_FULL", HALF, *WAVELET)
#: What else the standard knows, and may be named in a refusal.
OTHERS = ("HSV", "ARGB", "CMYK", "YBR_PARTIAL_420", "YBR_PARTIAL_422", "XYB")
MOST_FRAMES = 10_000
#: Times that a pixel may be longer than wide.
MOST_STRETCHED = 10
#: Millimetres between two pixels; more is a mistake.
MOST_SPACING = 100


def check_pixels(name: object, data: Any, most_pixels: int) -> Measures:
    """Return what a frame of a data set unpacks to, by its own numbers, which are put right where they lack.

    Raises:
        ImageError: no pixels, too many of them, or of their frames, values or bits, or colours that are not
            read here.
    """
    rows, columns = whole(name, data, "Rows", 0), whole(name, data, "Columns", 0)
    check_size(name, columns, rows, most_pixels)
    samples, bits = whole(name, data, "SamplesPerPixel", 1), whole(name, data, "BitsAllocated", 0)
    said = word(data, "PhotometricInterpretation")
    if said not in OTHERS and (samples not in (1, 3) or bits not in (1, 8, 16, 32)):
        raise ImageError(
            f"{name} holds {samples:,} values of {bits:,} bits a pixel; needed grey or three colours of 1, "
            "8, 16 or 32 bits"
        )
    _check_colours(name, said, samples)
    stored, planar = whole(name, data, "BitsStored", bits), whole(name, data, "PlanarConfiguration", 0)
    if not 0 < stored <= bits or planar not in (0, 1):
        raise ImageError(
            f"{name} says that it stores {stored:,} of {bits:,} bits, in planes of kind {planar:,}; needed "
            "no more bits than there are, and kind 0 or 1: correct it"
        )
    highest = whole(name, data, "HighBit", stored - 1)
    if not stored <= highest + 1 <= bits:
        raise ImageError(
            f"{name} says that bit {highest:,} is the highest of the {stored:,} that it stores in {bits:,}; "
            f"needed a HighBit from {stored - 1} to {bits - 1}: correct it"
        )
    data.SamplesPerPixel, data.PhotometricInterpretation, data.BitsStored = samples, said, stored
    data.HighBit = highest
    data.PixelRepresentation = int(whole(name, data, "PixelRepresentation", 0) == 1)
    if samples > 1:
        data.PlanarConfiguration = planar
    return Measures(columns, rows, samples, bits)


def frames_of(name: object, data: Any) -> int:
    """Return how many frames a data set says that it holds.

    Raises:
        ImageError: more than :data:`MOST_FRAMES`.
    """
    frames = max(1, whole(name, data, "NumberOfFrames", 1))
    if frames > MOST_FRAMES:
        raise ImageError(f"{name} holds {frames:,} frames; needed {MOST_FRAMES:,} at most: export fewer")
    return frames


def native_bytes(said: Measures, colours: str) -> int:
    """Return the bytes that uncompressed pixels take; colours of half the resolution hold two of three."""
    whole_bytes = (said.rows * said.columns * said.samples * said.bits + 7) // 8
    return whole_bytes * 2 // 3 if colours == HALF else whole_bytes


def check_native(name: object, data: Any, said: Measures, held: int) -> None:
    """Check that there are as many uncompressed pixels as the numbers say.

    Raises:
        ImageError: fewer, or colours that only a decoder makes.
    """
    if data.PhotometricInterpretation in WAVELET:
        raise ImageError(f"{name} has colours of JPEG 2000 and is not compressed so; export it as RGB")
    if data.PhotometricInterpretation == HALF and held >= native_bytes(said, "YBR_FULL"):
        data.PhotometricInterpretation = "YBR_FULL"  # some writers say half and write all
    needed = native_bytes(said, data.PhotometricInterpretation)
    if held < needed:
        raise ImageError(
            f"{name} cannot be decoded: it holds {held:,} of the {needed:,} bytes of its pixels; get it again"
        )


def aspect(name: object, data: Any) -> float:
    """Return the height of a pixel over its width; 1 where the file does not say.

    Raises:
        ImageError: one side is more than :data:`MOST_STRETCHED` times the other.
    """
    for tag in ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"):
        found = numbers(data, tag)
        if found is None or len(found) != 2:
            continue
        vertical, horizontal = found
        if vertical > 0 and horizontal > 0:
            ratio = vertical / horizontal
            if not 1 / MOST_STRETCHED <= ratio <= MOST_STRETCHED:
                raise ImageError(
                    f"{name} says that its pixels are {max(ratio, 1 / ratio):,.0f} times as long as wide; "
                    f"needed {MOST_STRETCHED} times at most: correct its pixel spacing"
                )
            return ratio
    return 1.0


def spacing(data: Any) -> tuple[float, float] | None:
    """Return the millimetres between rows and between columns in the patient; None where that is not known.

    What a detector measures of itself (``ImagerPixelSpacing``) is not the patient's: the beam enlarges.
    """
    found, own = numbers(data, "PixelSpacing"), numbers(data, "ImagerPixelSpacing")
    if found is None or len(found) != 2 or min(found) <= 0 or max(found) > MOST_SPACING:
        return None
    return None if own is not None and list(found) == list(own) else (found[0], found[1])


def stretched(name: object, width: int, height: int, ratio: float, most_pixels: int) -> tuple[int, int]:
    """Return width and height once pixels that are ``ratio`` times as high as wide are square.

    Raises:
        ImageError: that would be too many pixels, or a strip.
    """
    if abs(ratio - 1) <= 0.01:
        return width, height
    size = round(width * max(1, 1 / ratio)), round(height * max(1, ratio))
    check_size(f"{name}, stretched to its pixel spacing,", *size, most_pixels)
    return size


def _check_colours(name: object, said: str, samples: int) -> None:
    if said in ((*GREY, PALETTE_COLOUR) if samples == 1 else COLOURS):
        return
    if not said:
        what = "does not say what its values show"
    elif said in (*GREY, *COLOURS, PALETTE_COLOUR):
        what = f"says {said} of {samples:,} values a pixel"
    else:
        what = f"has colours of {f'the kind {said}' if said in OTHERS else 'a kind'} that is not read here"
    raise ImageError(
        f"{name} {what}; needed MONOCHROME1, MONOCHROME2, PALETTE COLOR, RGB or YBR_FULL: convert it first"
    )
