"""DICOM radiographs: the pixels as a radiologist's viewer shows them, and nothing of the patient.

Stored values become what is shown in the standard's order: rescale (modality LUT), the first VOI LUT or
window, MONOCHROME1 inverted, then 0..255. Without a window the image's own range is used; padding counts for
neither. Only the tags that decide pixels are read at all, so no patient tag is ever held, and messages never
repeat a tag's value.
"""

from __future__ import annotations

import io
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ttr.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

#: What decides the pixels, and no more.
TAGS = [
    *("Rows", "Columns", "NumberOfFrames", "PixelData", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "PixelRepresentation"),
    *("BitsAllocated", "BitsStored", "HighBit", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
]
_reading = threading.Lock()
SUFFIXES = frozenset({".dcm", ".dicom"})


def is_dicom(path: Path) -> bool:
    """Return whether a file is DICOM: by its suffix, or, without any, by the mark behind its preamble."""
    if path.suffix.lower() in SUFFIXES:
        return True
    if path.suffix and not path.suffix[1:].isdigit():
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def open_dicom(path: Path, content: bytes | None = None) -> Image:
    """Return a single-frame DICOM image as RGB.

    Args:
        path: its file, for messages and, without ``content``, to read.
        content: the file's bytes, where they were read already.

    Raises:
        ImageError: no DICOM image, several frames, or a compression that cannot be decoded here.
    """
    import PIL.Image
    import pydicom

    with _quiet():
        try:
            source = io.BytesIO(path.read_bytes() if content is None else content)
            data = pydicom.dcmread(source, specific_tags=TAGS)
        except Exception as error:
            raise ImageError(f"{path} is no DICOM file that can be read ({type(error).__name__})") from None
        frames = int(data.get("NumberOfFrames") or 1)
        if frames > 1:
            raise ImageError(
                f"{path} holds {frames} frames; needed a single image: export the frame you mean"
            )
        if "PixelData" not in data:
            raise ImageError(f"{path} holds no pixels; needed an image, not a report or a structure set")
        try:
            grey = _shown(data)
        except Exception as error:
            raise ImageError(
                f"{path} cannot be decoded ({type(error).__name__}); decompress it, "
                "or install pylibjpeg with its plugins"
            ) from None
    return PIL.Image.fromarray(grey).convert("RGB")


def _shown(data: Any) -> np.ndarray:
    """Return uint8 [H, W] or [H, W, 3] as a viewer shows it."""
    from pydicom.pixels import apply_modality_lut, apply_windowing, pixel_array
    from pydicom.pixels.processing import apply_voi

    stored = pixel_array(data)
    if stored.ndim == 3:
        return stored if stored.dtype == np.uint8 else _scaled(stored, stored.min(), stored.max())
    padding = _padding(data, stored)
    values = apply_modality_lut(stored, data)
    # What counts as black and white is found by sending a table's whole domain, or two values beyond any
    # window, the same way as the pixels.
    if data.get("VOILUTSequence"):
        length, first, _ = data.VOILUTSequence[0].LUTDescriptor
        table = apply_voi(np.arange(first, first + (length or 65536), dtype=np.int32), data)
        shown, low, high = apply_voi(values.astype(np.int32), data), table.min(), table.max()
    elif data.get("WindowWidth") is not None:
        beyond = np.append(values.astype(float).ravel(), [-1e12, 1e12])
        windowed = apply_windowing(beyond, data)
        shown, low, high = windowed[:-2].reshape(values.shape), *windowed[-2:]
    else:
        inside = values[~padding] if not padding.all() else values
        shown, low, high = values, inside.min(), inside.max()
    grey = _scaled(shown, low, high)
    if data.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    return np.where(padding, 0, grey).astype(np.uint8)


def _padding(data: Any, stored: np.ndarray) -> np.ndarray:
    """Return which pixels are padding, bool [H, W]."""
    value = data.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, dtype=bool)
    limit = data.get("PixelPaddingRangeLimit", value)
    return (stored >= min(value, limit)) & (stored <= max(value, limit))


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    share = (values.astype(np.float64) - low) / (high - low) if high > low else np.zeros(values.shape)
    return (255 * share.clip(0, 1)).round().astype(np.uint8)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the reader's own messages off every log: they repeat values of tags.

    One thread at a time, since log levels and warning filters belong to the whole process.
    """
    logger = logging.getLogger("pydicom")
    with _reading:
        level = logger.level
        logger.setLevel(logging.CRITICAL)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            logger.setLevel(level)
