"""A DICOM image before a window is chosen, and how it is shown: what a radiologist's viewer does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

#: How a window goes from black to white (PS3.3, C.11.2.1.2 and .3).
CURVES = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


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
    """One DICOM image before a window is chosen. Make one with :func:`ttr.datasets.dicom.reading.read_dicom`.

    Attributes:
        values: after the modality LUT, [H, W]; or colours, uint8 [H, W, 3].
        windows: those that the file brings, in its order.
        size: width and height once its pixels are square.
        aspect: height of a pixel over its width (1 where the file does not say).
        burned_in: whether the file says that text is burnt into the pixels; None: it does not say.
        modality: CT, CR, DX, ..., or "".
        range: lowest and highest value that is no padding.
        curve: how the file's windows go from black to white, one of :data:`CURVES`.
        inverted: whether low values are shown white.
        first: lowest value that the VOI lookup table maps.
        table: the grey that it maps to, uint8 [N], or None; it comes before the windows.
        padding: which pixels are no part of the image, bool [H, W], or None.
        own_range: whether the file's own way shows nothing, so that it is first shown in :attr:`range`.
        notes: sentences that must stand beside the picture: what of the file could not be followed.
        spacing: millimetres in the patient between rows and between columns of ``values``, or None.
    """

    values: np.ndarray
    windows: tuple[Window, ...]
    size: tuple[int, int]
    aspect: float
    burned_in: bool | None
    modality: str
    range: tuple[float, float]
    curve: str = "LINEAR"
    inverted: bool = False
    first: int = 0
    table: np.ndarray | None = None
    padding: np.ndarray | None = None
    own_range: bool = False
    notes: tuple[str, ...] = ()
    spacing: tuple[float, float] | None = None

    def image(self, window: Window | None = None) -> Image:
        """Return the picture as RGB with square pixels.

        ``window``: one of :attr:`windows` or one's own; None: what a viewer shows first (the VOI table, else
        the first window, else the image's own range; that also where the file's own way shows nothing).
        """
        return self._first if window is None else self._picture(window)

    def is_blank(self, window: Window | None = None) -> bool:
        """Return whether that picture has one grey only although the image has several values."""
        low, high = self.range
        if low == high or self.values.ndim == 3:
            return False
        if window is None and self.table is not None:
            grey = self._grey(self.values if self.padding is None else self.values[~self.padding], None)
        else:
            grey = self._grey(
                np.array(self.range), window
            )  # which rises from the lowest value to the highest
        return bool(grey.min() == grey.max())

    @property
    def is_whole(self) -> bool:
        """Whether its values are whole numbers."""
        return self.values.dtype.kind in "iu" or bool((self.values == np.rint(self.values)).all())

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
        if self.values.ndim == 3:
            return self.values
        grey = self._grey(self.values, window)
        if self.inverted:
            grey = 255 - grey
        return grey if self.padding is None else np.where(self.padding, np.uint8(0), grey)

    def _grey(self, values: np.ndarray, window: Window | None) -> np.ndarray:
        """Return values as uint8 of their shape, low ones black."""
        if window is None and (self.own_range or (self.table is None and not self.windows)):
            return scaled(values, *self.range)
        if window is None and self.table is not None:
            places = np.rint(values).astype(np.int64) - self.first
            return self.table[places.clip(0, len(self.table) - 1)]
        chosen = window or self.windows[0]
        # LINEAR reckons in whole steps: of a range of 0.02, one's own window would be black.
        own = CURVES[not self.is_whole]
        return windowed(values, chosen, self.curve if chosen in self.windows else own)


def windowed(values: np.ndarray, window: Window, curve: str) -> np.ndarray:
    """Return values in a window as uint8: the standard's three functions (PS3.3, C.11.2.1.2 and .3)."""
    if curve == "SIGMOID":
        with np.errstate(over="ignore"):
            return scaled(1 / (1 + np.exp(-4 * (values - window.center) / window.width)), 0, 1)
    exact = curve == "LINEAR_EXACT"
    middle, half = window.center - 0.5 * (not exact), (window.width - (not exact)) / 2
    if half == 0:
        return np.where(values > middle, np.uint8(255), np.uint8(0))
    return scaled(values, middle - half, middle + half)


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return values as uint8: 0 up to ``low``, 255 from ``high`` on, rounded between."""
    if not high > low:
        return np.zeros(values.shape, dtype=np.uint8)
    share = np.subtract(values, low, dtype=np.float64)
    share /= high - low
    return np.rint(np.multiply(share.clip(0, 1, out=share), 255, out=share), out=share).astype(np.uint8)
