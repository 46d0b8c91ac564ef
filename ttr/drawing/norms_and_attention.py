"""Norms and CLS attention side by side: by block, of patches against registers, and as maps."""

from __future__ import annotations

import numpy as np

from ttr.drawing.colours import GREEN
from ttr.drawing.maps import AFTER, block_ticks, colourise, finish, pair_of_axes, png_uri

#: Of the images, so many per cent lie within a band.
BAND = (5, 95)


def largest_by_block(norms: np.ndarray, attention: np.ndarray, colour: str) -> str:
    """Draw the largest patch norm and the largest CLS attention to a patch by block, as a data URI.

    Args:
        norms: of each image, [I, L].
        attention: of each image, [I, L].
        colour: of the line, the mean over the images; shaded: :data:`BAND`.
    """
    figure, axes = pair_of_axes(2)
    for axis, lines, label in (
        (axes[0], norms, "largest patch norm"),
        (axes[1], attention, "largest CLS attention to a patch"),
    ):
        blocks = np.arange(lines.shape[1])
        axis.plot(blocks, lines.mean(axis=0), color=colour, marker="o", linewidth=2)
        axis.fill_between(blocks, *np.percentile(lines, BAND, axis=0), color=colour, alpha=0.2, linewidth=0)
        axis.set(xlabel="block", ylabel=label, ylim=(0, None), xticks=block_ticks(lines.shape[1]))
    return finish(figure)


def patches_and_registers(
    norms: tuple[np.ndarray, np.ndarray], attention: tuple[np.ndarray, np.ndarray]
) -> str:
    """Draw norms and CLS attention of patches and of registers as boxes with their medians, as a data URI.

    Args:
        norms: of the patches and of the registers, of any shape; without registers empty.
        attention: the same.
    """
    from matplotlib.ticker import LogFormatter

    figure, axes = pair_of_axes(2)
    for axis, pair, label in ((axes[0], norms, "norm (L2)"), (axes[1], attention, "CLS attention")):
        groups = [group.ravel() for group in pair]
        shown = [group for group in groups if group.size]
        names = [n for n, group in zip(("patches", "registers"), groups, strict=True) if group.size]
        boxes = axis.boxplot(shown, widths=0.5, flierprops={"markersize": 2}, patch_artist=True)
        for box, colour in zip(boxes["boxes"], (AFTER, GREEN), strict=False):
            box.set(facecolor=colour, alpha=0.5)
        for place, group in enumerate(shown, start=1):
            axis.annotate(
                f"median {np.median(group):.3g}",
                (place + 0.25, np.median(group)),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axis.set_xticks(range(1, len(names) + 1), names)
        axis.set(yscale="log", ylabel=label, xlim=(0.4, len(names) + 1))
        axis.yaxis.set_major_formatter("{x:g}")
        # Within a decade or two the powers of ten alone would leave the axis without a number.
        axis.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
    return finish(figure)


def map_uri(values: np.ndarray, high: float, colour_map: str) -> str:
    """Return a map [rows, columns] as a data URI of a pixel a patch, on the scale 0..``high``."""
    return png_uri(colourise(values, high, colour_map, (values.shape[0], values.shape[1])))
