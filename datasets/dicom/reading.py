"""DICOM radiographs: the pixels as a radiologist's viewer shows them, and nothing of the patient.

Stored values become what is shown in the standard's order: rescale (modality LUT), the first VOI LUT or
window, MONOCHROME1 inverted, then 0..255. Without a window the image's own range is used; padding counts for
neither. Where what the file says would show nothing (a window of no width, a slope of 0), it is the image's
own range, too, and a sentence says so. Pixels that are not square are made so from their spacing. Only the
tags that decide pixels, or what must be said of them, are read at all, so no patient tag is ever held; and
what a file says in words is compared with words of ours, never repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ttr.datasets.dicom.compressed import Measures, checked, decoder_of
from ttr.datasets.dicom.elements import PIXELS, Essence
from ttr.datasets.dicom.files import image_bytes
from ttr.datasets.dicom.frames import parsed, pixels_of
from ttr.datasets.dicom.pixels import (
    GREY,
    HALF,
    NATIVE,
    PALETTE_COLOUR,
    aspect,
    check_pixels,
    frames_of,
    spacing,
    stretched,
)
from ttr.datasets.dicom.radiograph import CURVES, Radiograph, Window, scaled
from ttr.datasets.dicom.tables import Table, in_palette, palette_of, table_of
from ttr.datasets.dicom.tags import number, numbers, word
from ttr.datasets.limits import MOST_PIXELS, no_memory
from ttr.datasets.quiet import quiet
from ttr.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

#: What may be said of a window, where the file calls it that.
WINDOW_WORDS = (
    "normal",
    "harder",
    "softer",
    "lung",
    "mediastinum",
    "soft tissue",
    "bone",
    "brain",
    "abdomen",
)
MODALITIES = frozenset(
    ["CR", "CT", "DX", "IO", "MG", "MR", "NM", "OP", "OT", "PT", "PX", "RF", "SC", "US", "XA", "XC"]
)
OWN_RANGE = "its own range is shown instead"
#: Where an image carries the sentences that must stand beside it.
NOTES = "notes"


def open_dicom(path: Path, content: bytes | None = None, *, most_pixels: int = MOST_PIXELS) -> Image:
    """Return a DICOM image as RGB, in its first window and with square pixels.

    What must be said of it stands in ``image.info["notes"]``, sentences, where there is anything.

    Args:
        path: its file, or one of its frames (``cine.dcm#3``); for messages and, without ``content``, to read.
        content: the bytes that decide its pixels, where they were read already.
        most_pixels: refuse more than these, as stored or with square pixels, before anything is decoded.

    Raises:
        ImageError: no DICOM image, several frames, more than is safe, damaged, or a compression that cannot
            be decoded here.
    """
    found = read_dicom(path, content, most_pixels=most_pixels)
    image = found.image()
    if found.notes:
        image.info[NOTES] = found.notes
    return image


def read_dicom(path: Path, content: bytes | None = None, *, most_pixels: int = MOST_PIXELS) -> Radiograph:
    """Read a DICOM image of one frame; the arguments and refusals are :func:`open_dicom`'s."""
    content = image_bytes(path) if content is None else content
    with quiet():
        try:
            found, data = parsed(path, content, most_pixels)
            said = check_pixels(path, data, most_pixels)
            frames = frames_of(path, data)
            if frames > 1:
                raise ImageError(
                    f"{path} holds {frames:,} frames; needed a single image: add #1 to #{frames} to its "
                    "name, or export the frame you mean"
                )
            radiograph = _radiograph(path, data, partial(_decoded, path, found, data, said), most_pixels)
            radiograph.image()
        except ImageError:
            raise
        except MemoryError:
            raise no_memory(path) from None
        except Exception as error:
            raise ImageError(
                f"{path} cannot be decoded ({type(error).__name__}); export it anew, uncompressed"
            ) from None
    return radiograph


def _decoded(path: Path, found: Essence, data: Any, said: Measures) -> np.ndarray:
    """Return the pixels as they are stored, [H, W], or colours [H, W, 3]."""
    from pydicom.encaps import encapsulate
    from pydicom.pixels import pixel_array

    syntax = str(data.file_meta.TransferSyntaxUID)
    pixels, decoder, measured = pixels_of(path, found, data, said, 1), "", said
    if syntax not in NATIVE:
        picture, measured = checked(path, syntax, pixels, said)
        decoder, pixels = decoder_of(path, syntax, measured), encapsulate([picture])
    data.NumberOfFrames = 1
    data.add_new(PIXELS, found.kind.decode(), pixels)
    stored, highest = data.BitsStored, data.HighBit + 1
    if measured.bits <= stored:
        highest = stored  # of a compressed picture that has them where they belong already
    data.BitsStored = highest  # what lies above is cut off in decoding, and a sign begins there
    values = pixel_array(data, decoding_plugin=decoder, allow_excess_frames=False)
    data.BitsStored = stored
    return values >> (highest - stored)


def _radiograph(path: Path, data: Any, decoded: Callable[[], np.ndarray], most_pixels: int) -> Radiograph:
    """Return the image; whatever the file says of itself is checked before anything is decoded."""
    ratio, modality = aspect(path, data), word(data, "Modality")
    common: dict[str, Any] = {
        "size": stretched(path, int(data.Columns), int(data.Rows), ratio, most_pixels),
        "aspect": ratio,
        "burned_in": {"YES": True, "NO": False}.get(word(data, "BurnedInAnnotation")),
        "modality": modality if modality in MODALITIES else "",
        "spacing": spacing(data),
    }
    if data.PhotometricInterpretation == PALETTE_COLOUR:
        palette = palette_of(path, data)
        return Radiograph(in_palette(decoded(), palette), (), range=(0, 255), **common)
    if data.PhotometricInterpretation not in GREY:
        return Radiograph(_colours(path, data, decoded), (), range=(0, 255), **common)
    meant, shown = (table_of(path, data, f"{kind}LUTSequence") for kind in ("Modality", "VOI"))
    windows, unusable = _windows(path, data)
    stored = decoded()
    padding, unsaid = _padding(data, stored)
    values, unequal = _rescaled(path, data, stored, meant)
    inside = values if padding is None else values[~padding]
    found = Radiograph(
        values,
        windows,
        range=(float(inside.min()), float(inside.max())),
        curve=_curve(data) if windows else CURVES[0],
        inverted=data.PhotometricInterpretation == GREY[0],
        padding=padding,
        notes=(*unsaid, *unequal, *unusable),
        **common,
    )
    if unequal:
        return replace(found, windows=())  # which are in units that these values have not
    return _not_blank(found if shown is None else _looked_up(found, shown))


def _not_blank(found: Radiograph) -> Radiograph:
    """Return a radiograph that shows something: in its own range, where the file's way is one single grey."""
    if not found.is_blank():
        return found
    low, high = found.range
    what = "VOI table" if found.table is not None else f"window {found.windows[0].name}"
    note = f"The file's {what} shows all of its values ({low:g} to {high:g}) as one grey; {OWN_RANGE}."
    # The file's windows stay to be chosen, but none of them is the first that is shown.
    return replace(found, own_range=True, notes=(*found.notes, note))


def _looked_up(found: Radiograph, table: Table) -> Radiograph:
    table = table.below_zero() if found.range[0] < 0 else table
    return replace(found, first=table.first, table=scaled(table.entries, 0, table.white))


def _colours(path: Path, data: Any, decoded: Callable[[], np.ndarray]) -> np.ndarray:
    """Return colours as uint8 [H, W, 3]."""
    bits = int(data.BitsStored)
    if bits > 8 and data.PhotometricInterpretation in ("YBR_FULL", HALF):
        raise ImageError(f"{path} has YBR colours of {bits} bits; needed 8 bits, or RGB: convert it first")
    stored = decoded()
    unsigned = stored.view(f"u{stored.itemsize}")
    return unsigned if bits == 8 * stored.itemsize == 8 else scaled(unsigned, 0, 2**bits - 1)


def _rescaled(path: Path, data: Any, stored: np.ndarray, table: Table | None) -> tuple[np.ndarray, list[str]]:
    """Return the values that stored ones stand for, and what must be said of them."""
    slope, intercept = number(path, data, "RescaleSlope", 1), number(path, data, "RescaleIntercept", 0)
    if table is not None:
        values = (table.below_zero() if data.PixelRepresentation else table).look_up(stored)
    elif (slope, intercept) == (1, 0):
        return stored, []
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            values = stored * np.float64(slope) + intercept
        if not np.isfinite(values).all():
            raise ImageError(
                f"{path} has a rescale slope or intercept that makes pixels infinite or no numbers; "
                "correct it"
            )
    if values.min() < values.max() or stored.min() == stored.max():
        return values, []
    what = "modality table" if table is not None else f"rescale slope of {slope:g}"
    return stored, [f"The file's {what} makes all of its values equal; they are shown as stored."]


def _curve(data: Any) -> str:
    return word(data, "VOILUTFunction") or CURVES[0]


def _windows(path: Path, data: Any) -> tuple[tuple[Window, ...], list[str]]:
    """Return the windows that can be used, and what must be said of the others."""
    curve, words = _curve(data), data.get("WindowCenterWidthExplanation") or ()
    words = [words] if isinstance(words, str) else list(words)
    centers, widths = numbers(data, "WindowCenter"), numbers(data, "WindowWidth")
    if centers is None or widths is None:
        return (), [f"The file's window is no pair of numbers; {OWN_RANGE}."]
    pairs = list(zip(centers, widths, strict=False))
    if pairs and curve not in CURVES:
        raise ImageError(f"{path} has a window of a kind that is not read here; needed {', '.join(CURVES)}")
    least = 1 if curve == CURVES[0] else 0
    found = []
    for index, (center, width) in enumerate(pairs):
        said = str(words[index]).strip().lower() if index < len(words) else ""
        numbers_of_it = f"{center:g} / {width:g}"
        if abs(center) < 1e9 > width and width >= least and width > 0:
            called = f"{said} {numbers_of_it}" if said in WINDOW_WORDS else numbers_of_it
            found.append(Window(called, center, width))
    if len(found) == len(pairs):
        return tuple(found), []
    instead = f"{found[0].name} is shown first" if found else OWN_RANGE
    center, width = next(pair for pair in pairs if not any(pair == (w.center, w.width) for w in found))
    return tuple(found), [f"The file has a window of centre {center:g} and width {width:g}; {instead}."]


def _padding(data: Any, stored: np.ndarray) -> tuple[np.ndarray | None, list[str]]:
    """Return which pixels are padding, bool [H, W], None where there is none; and what must be said of it."""
    value = numbers(data, "PixelPaddingValue")
    limit = numbers(data, "PixelPaddingRangeLimit") or value
    if value is None or limit is None or len(value) > 1 or len(limit) > 1:
        return None, ["The file's padding is no single number; no pixel is taken for padding."]
    if not value or not limit:
        return None, []
    # Written with the other sign than the pixels, it means the same bits: all that a pixel takes, since a
    # value that the stored ones cannot hold would be folded onto valid pixels.
    bits, signed = int(data.BitsAllocated), bool(data.PixelRepresentation)
    ends = [int(end) % 2**bits for end in (value[0], limit[0])]
    ends = [end - 2**bits if signed and end >= 2 ** (bits - 1) else end for end in ends]
    found = (stored >= min(ends)) & (stored <= max(ends))
    if not found.all():
        return found if found.any() else None, []
    if stored.min() == stored.max():
        return None, []
    return None, ["The file calls all of its pixels padding; no pixel is taken for it."]
