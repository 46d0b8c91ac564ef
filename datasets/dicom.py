"""DICOM radiographs: the pixels as a radiologist's viewer shows them, and nothing of the patient.

Stored values become what is shown in the standard's order: rescale (modality LUT), the first VOI LUT or
window, MONOCHROME1 inverted, then 0..255. Without a window the image's own range is used; padding counts for
neither. Pixels that are not square are made so from their spacing. Only the tags that decide pixels, or
what must be said of them, are read at all, so no patient tag is ever held, and messages never repeat a
tag's value.
"""

from __future__ import annotations

import io
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ttr.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

#: What decides the pixels and what must be said of them, and no more.
TAGS = [
    *("Rows", "Columns", "NumberOfFrames", "PixelData", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "PixelRepresentation"),
    *("BitsAllocated", "BitsStored", "HighBit", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction", "VOILUTSequence"),
    *("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio", "BurnedInAnnotation", "Modality"),
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


@dataclass(frozen=True)
class Window:
    """One way to show stored values, as the file names it: grey from black to white around a centre.

    Attributes:
        name: the file's own name for it, or its numbers.
        center: value in the middle of the grey scale, in the file's units (Hounsfield on a CT).
        width: how many units lie between black and white.
    """

    name: str
    center: float
    width: float


@dataclass(frozen=True, eq=False)
class Radiograph:
    """A single-frame DICOM image before a window is chosen. Make one with :func:`read_dicom`.

    Attributes:
        values: after the modality LUT, [H, W]; or colours, uint8 [H, W, 3].
        windows: those that the file brings, in its order.
        table: whether the file brings a VOI lookup table, which comes before its windows.
        aspect: height of a pixel over its width (1 where the file does not say).
        burned_in: whether the file says that text is burnt into the pixels; None: it does not say.
        modality: CT, CR, DX, ..., or "".
    """

    values: np.ndarray
    windows: tuple[Window, ...]
    table: bool
    aspect: float
    burned_in: bool | None
    modality: str
    _data: Any
    _padding: np.ndarray

    def image(self, window: Window | None = None) -> Image:
        """Return the picture as RGB with square pixels.

        ``window``: one of :attr:`windows` or one's own; None: what a viewer shows first (the VOI table, else
        the first window, else the image's own range).
        """
        return self._first if window is None else self._picture(window)

    @cached_property
    def _first(self) -> Image:
        return self._picture(None)

    def _picture(self, window: Window | None) -> Image:
        import PIL.Image

        picture = PIL.Image.fromarray(self._shown(window))
        height, width = self.values.shape[:2]
        if abs(self.aspect - 1) > 0.01:
            wide, tall = max(1, 1 / self.aspect), max(1, self.aspect)
            size = (round(width * wide), round(height * tall))
            picture = picture.resize(size, PIL.Image.Resampling.BILINEAR)
        return picture.convert("RGB")

    def _shown(self, window: Window | None) -> np.ndarray:
        """Return uint8 [H, W] or [H, W, 3] as a viewer shows it."""
        from pydicom.pixels import apply_windowing
        from pydicom.pixels.processing import apply_voi

        values, data = self.values, self._data
        if values.ndim == 3:
            return values if values.dtype == np.uint8 else _scaled(values, values.min(), values.max())
        # What counts as black and white is found by sending a table's whole domain, or two values beyond any
        # window, the same way as the pixels.
        if window is None and self.table:
            length, first, _ = data.VOILUTSequence[0].LUTDescriptor
            table = apply_voi(np.arange(first, first + (length or 65536), dtype=np.int32), data)
            shown, low, high = apply_voi(values.astype(np.int32), data), table.min(), table.max()
        elif self.windows and window in (None, *self.windows):
            beyond = np.append(values.astype(float).ravel(), [-1e12, 1e12])
            index = 0 if window is None else self.windows.index(window)
            windowed = apply_windowing(beyond, data, index=index)
            shown, low, high = windowed[:-2].reshape(values.shape), *windowed[-2:]
        elif window is not None:
            shown, half = values, (window.width - 1) / 2
            low, high = window.center - 0.5 - half, window.center - 0.5 + half
        else:
            inside = values[~self._padding] if not self._padding.all() else values
            shown, low, high = values, inside.min(), inside.max()
        grey = _scaled(shown, low, high)
        if data.PhotometricInterpretation == "MONOCHROME1":
            grey = 255 - grey
        return np.where(self._padding, 0, grey).astype(np.uint8)


def open_dicom(path: Path, content: bytes | None = None) -> Image:
    """Return a single-frame DICOM image as RGB, in its first window and with square pixels.

    Args:
        path: its file, for messages and, without ``content``, to read.
        content: the file's bytes, where they were read already.

    Raises:
        ImageError: no DICOM image, several frames, or a compression that cannot be decoded here.
    """
    return read_dicom(path, content).image()


def read_dicom(path: Path, content: bytes | None = None, *, max_pixels: int | None = None) -> Radiograph:
    """Read a single-frame DICOM image; the arguments and refusals are :func:`open_dicom`'s.

    ``max_pixels``: refuse more than that before anything is decoded.
    """
    import pydicom

    with _quiet():
        try:
            source = io.BytesIO(path.read_bytes() if content is None else content)
            data = pydicom.dcmread(source, specific_tags=TAGS)
            frames = int(data.get("NumberOfFrames") or 1)
            pixels = int(data.get("Rows") or 0) * int(data.get("Columns") or 0)
        except Exception as error:
            raise ImageError(f"{path} is no DICOM file that can be read ({type(error).__name__})") from None
        if frames > 1:
            raise ImageError(
                f"{path} holds {frames} frames; needed a single image: export the frame you mean"
            )
        if "PixelData" not in data:
            raise ImageError(f"{path} holds no pixels; needed an image, not a report or a structure set")
        if max_pixels is not None and pixels > max_pixels:
            raise ImageError(f"{path} has too many pixels to open safely; scale it down first")
        try:
            found = _radiograph(data)
            found.image()
        except Exception as error:
            raise ImageError(
                f"{path} cannot be decoded ({type(error).__name__}); decompress it, "
                "or install pylibjpeg with its plugins"
            ) from None
    return found


def _radiograph(data: Any) -> Radiograph:
    from pydicom.pixels import apply_modality_lut, pixel_array

    stored = pixel_array(data)
    colour = stored.ndim == 3
    said = str(data.get("BurnedInAnnotation") or "").upper()
    return Radiograph(
        values=stored if colour else apply_modality_lut(stored, data),
        windows=() if colour else _windows(data),
        table=bool(data.get("VOILUTSequence")),
        aspect=_aspect(data),
        burned_in={"YES": True, "NO": False}.get(said),
        modality=str(data.get("Modality") or ""),
        _data=data,
        _padding=_padding(data, stored),
    )


def _windows(data: Any) -> tuple[Window, ...]:
    centers, widths, names = (
        _several(data.get(f"Window{tag}")) for tag in ("Center", "Width", "CenterWidthExplanation")
    )
    found = []
    for index, (center, width) in enumerate(zip(centers, widths, strict=False)):
        name = str(names[index]) if index < len(names) else f"{float(center):g} / {float(width):g}"
        found.append(Window(name, float(center), float(width)))
    return tuple(found)


def _several(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | int | float) else list(value)


def _aspect(data: Any) -> float:
    """Return the height of a pixel over its width; 1 where the file does not say, or says nonsense."""
    for tag in ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"):
        value = _several(data.get(tag))
        if len(value) == 2:
            vertical, horizontal = map(float, value)
            if vertical > 0 and horizontal > 0 and 0.1 <= vertical / horizontal <= 10:
                return vertical / horizontal
    return 1.0


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
