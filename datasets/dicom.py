"""DICOM radiographs: the pixels as a radiologist's viewer shows them, and nothing of the patient.

Stored values become what is shown in the standard's order: rescale (modality LUT), the first VOI LUT or
window, MONOCHROME1 inverted, then 0..255. Without a window the image's own range is used; padding counts for
neither. Pixels that are not square are made so from their spacing. Only the tags that decide pixels, or
what must be said of them, are read at all, so no patient tag is ever held; and what a file says in words is
compared with words of ours, never repeated.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ttr.datasets.dicom_elements import essential
from ttr.datasets.dicom_pixels import GREY, NATIVE, aspect, check_pixels, stretched
from ttr.datasets.limits import MOST_BYTES_A_PIXEL, MOST_PIXELS, file_bytes, no_memory
from ttr.datasets.quiet import quiet
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
SUFFIXES = frozenset({".dcm", ".dicom"})
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
CURVES = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
#: Bytes beside its pixels that a deflated file may hold.
OTHER_BYTES = 2**20


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
    """One way to show stored values: grey from black to white around a centre.

    Attributes:
        name: its numbers, after a word of ours where the file calls it so.
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
        values: after the modality LUT, [H, W]; or colours, uint8 or uint16 [H, W, 3].
        windows: those that the file brings, in its order.
        size: width and height once its pixels are square.
        aspect: height of a pixel over its width (1 where the file does not say).
        burned_in: whether the file says that text is burnt into the pixels; None: it does not say.
        modality: CT, CR, DX, ..., or "".
        curve: how the file's windows go from black to white, one of :data:`CURVES`.
        inverted: whether low values are shown white.
        first: lowest value that the VOI lookup table maps.
        table: what it maps to, or None; it comes before the windows.
        padding: which pixels are no part of the image, bool [H, W], or None.
    """

    values: np.ndarray
    windows: tuple[Window, ...]
    size: tuple[int, int]
    aspect: float
    burned_in: bool | None
    modality: str
    curve: str = "LINEAR"
    inverted: bool = False
    first: int = 0
    table: np.ndarray | None = None
    padding: np.ndarray | None = None

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
        if picture.size != self.size:
            picture = picture.resize(self.size, PIL.Image.Resampling.BILINEAR)
        return picture.convert("RGB")

    def _shown(self, window: Window | None) -> np.ndarray:
        """Return uint8 [H, W] or [H, W, 3] as a viewer shows it."""
        values = self.values
        if values.ndim == 3:
            return values if values.dtype == np.uint8 else _scaled(values, values.min(), values.max())
        if window is None and self.table is not None:
            places = (values.astype(np.int32).astype(np.int64) - self.first).clip(0, len(self.table) - 1)
            grey = _scaled(self.table[places], self.table.min(), self.table.max())
        elif window is not None or self.windows:
            chosen = window or self.windows[0]
            grey = _windowed(values, chosen, self.curve if chosen in self.windows else CURVES[0])
        else:
            counts = None if self.padding is None or self.padding.all() else ~self.padding
            inside = values if counts is None else values[counts]
            grey = _scaled(values, inside.min(), inside.max())
        if self.inverted:
            grey = 255 - grey
        return grey if self.padding is None else np.where(self.padding, np.uint8(0), grey)


def open_dicom(path: Path, content: bytes | None = None, *, most_pixels: int = MOST_PIXELS) -> Image:
    """Return a single-frame DICOM image as RGB, in its first window and with square pixels.

    Args:
        path: its file, for messages and, without ``content``, to read.
        content: the file's bytes, where they were read already.
        most_pixels: refuse more than these, as stored or with square pixels, before anything is decoded.

    Raises:
        ImageError: no DICOM image, several frames, more than is safe, damaged, or a compression that cannot
            be decoded here.
    """
    return read_dicom(path, content, most_pixels=most_pixels).image()


def read_dicom(path: Path, content: bytes | None = None, *, most_pixels: int = MOST_PIXELS) -> Radiograph:
    """Read a single-frame DICOM image; the arguments and refusals are :func:`open_dicom`'s."""
    import pydicom
    from pydicom.datadict import tag_for_keyword

    content = file_bytes(path) if content is None else content
    wanted = frozenset(tag_for_keyword(name) or 0 for name in TAGS)
    step = f"{path} is no DICOM file that can be read (%s)"
    with quiet():
        try:
            kept = essential(path, content, wanted, MOST_BYTES_A_PIXEL * most_pixels + OTHER_BYTES)
            data = pydicom.dcmread(io.BytesIO(kept), specific_tags=TAGS)
            check_pixels(path, data, most_pixels)
            step = f"{path} cannot be decoded (%s); {_advice(data)}"
            found = _radiograph(path, data, most_pixels)
            found.image()
        except ImageError:
            raise
        except MemoryError:
            raise no_memory(path) from None
        except Exception as error:
            raise ImageError(step % type(error).__name__) from None
    return found


def _advice(data: Any) -> str:
    if data.file_meta.get("TransferSyntaxUID") in NATIVE:
        return "export it anew"
    return "decompress it, or install pylibjpeg with its plugins"


def _radiograph(path: Path, data: Any, most_pixels: int) -> Radiograph:
    from pydicom.pixels import apply_modality_lut, pixel_array

    ratio = aspect(path, data)
    size = stretched(path, int(data.Columns), int(data.Rows), ratio, most_pixels)
    said = str(data.get("BurnedInAnnotation") or "").upper()
    modality = str(data.get("Modality") or "")
    common: dict[str, Any] = {
        "size": size,
        "aspect": ratio,
        "burned_in": {"YES": True, "NO": False}.get(said),
        "modality": modality if modality in MODALITIES else "",
    }
    if data.PhotometricInterpretation not in GREY:
        return Radiograph(values=pixel_array(data), windows=(), **common)
    windows, stored = tuple(_windows(path, data)), pixel_array(data)
    first, table = _table(data)
    return Radiograph(
        values=_finite(path, apply_modality_lut(stored, data)),
        windows=windows,
        curve=_curve(data) if windows else CURVES[0],
        inverted=data.PhotometricInterpretation == GREY[0],
        first=first,
        table=table,
        padding=_padding(data, stored),
        **common,
    )


def _curve(data: Any) -> str:
    return str(data.get("VOILUTFunction") or CURVES[0]).upper()


def _windows(path: Path, data: Any) -> Iterator[Window]:
    centers, widths, words = (
        _several(data.get(f"Window{tag}")) for tag in ("Center", "Width", "CenterWidthExplanation")
    )
    curve = _curve(data)
    if centers and widths and curve not in CURVES:
        raise ImageError(f"{path} has a window of a kind that is not read here; needed {', '.join(CURVES)}")
    for index, (center, width) in enumerate(zip(map(float, centers), map(float, widths), strict=False)):
        if not (abs(center) < 1e9 and 0 < width < 1e9) or (curve == CURVES[0] and width < 1):
            raise ImageError(
                f"{path} has a window of centre {center:g} and width {width:g}; needed a width of at least "
                "1, and both below 1e9: correct it, or remove it from the file"
            )
        word = str(words[index]).strip().lower() if index < len(words) else ""
        numbers = f"{center:g} / {width:g}"
        yield Window(f"{word} {numbers}" if word in WINDOW_WORDS else numbers, center, width)


def _several(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | int | float) else list(value)


def _table(data: Any) -> tuple[int, np.ndarray | None]:
    """Return the lowest value that the VOI lookup table maps, and what it maps its values to."""
    from pydicom.pixels.processing import apply_voi

    if not data.get("VOILUTSequence"):
        return 0, None
    length, first, _ = map(int, data.VOILUTSequence[0].LUTDescriptor)
    return first, apply_voi(np.arange(first, first + (length or 65536), dtype=np.int32), data)


def _finite(path: Path, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ImageError(
            f"{path} has a rescale slope or intercept that makes pixels infinite or no numbers; correct it"
        )
    return values


def _padding(data: Any, stored: np.ndarray) -> np.ndarray | None:
    """Return which pixels are padding, bool [H, W], None where the file names no padding."""
    value = data.get("PixelPaddingValue")
    if value is None:
        return None
    limit = data.get("PixelPaddingRangeLimit", value)
    return (stored >= min(value, limit)) & (stored <= max(value, limit))


def _windowed(values: np.ndarray, window: Window, curve: str) -> np.ndarray:
    """Return values in a window as uint8: the standard's three functions (PS3.3, C.11.2.1.2 and .3)."""
    if curve == "SIGMOID":
        with np.errstate(over="ignore"):
            return _scaled(1 / (1 + np.exp(-4 * (values - window.center) / window.width)), 0, 1)
    exact = curve == "LINEAR_EXACT"
    middle, half = window.center - 0.5 * (not exact), (window.width - (not exact)) / 2
    if half == 0:
        return np.where(values > middle, np.uint8(255), np.uint8(0))
    return _scaled(values, middle - half, middle + half)


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    if not high > low:
        return np.zeros(values.shape, dtype=np.uint8)
    share = np.subtract(values, low, dtype=np.float64)
    share /= high - low
    return np.rint(np.multiply(share.clip(0, 1, out=share), 255, out=share), out=share).astype(np.uint8)
