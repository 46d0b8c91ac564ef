"""Pictures of a comparison: curves by block, and what patches and registers hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ttr.drawing.colours import GREEN
from ttr.drawing.maps import AFTER, BEFORE, block_ticks, finish, pair_of_axes
from ttr.studies.compare.comparison import ImageComparison


def layer_curves(comparisons: Sequence[ImageComparison]) -> str:
    """Draw the largest patch norm and the largest CLS attention by block, before and after, as a data URI.

    Thick lines are means over the images, thin lines single images.
    """
    figure, axes = pair_of_axes(2)
    for axis, name, label in (
        (axes[0], "max_patch_norm", "largest patch norm"),
        (axes[1], "max_patch_attention", "largest CLS attention to a patch"),
    ):
        for run, colour, marker in (("before", BEFORE, "o"), ("after", AFTER, "s")):
            lines = np.array([getattr(getattr(c, run).curves, name) for c in comparisons])
            blocks = np.arange(lines.shape[1])
            axis.plot(blocks, lines.T, color=colour, linewidth=0.6, alpha=0.3)
            axis.plot(blocks, lines.mean(axis=0), color=colour, marker=marker, linewidth=2, label=run)
        axis.set(xlabel="block", ylabel=label, ylim=(0, None), xticks=block_ticks(lines.shape[1]))
        axis.legend(frameon=False)
    return finish(figure)


def distributions(comparisons: Sequence[ImageComparison]) -> str:
    """Draw norms and CLS attention of patches and registers at the last block, after, as a data URI."""
    from matplotlib.ticker import LogFormatter

    figure, axes = pair_of_axes(2)
    for axis, patches, registers, label in (
        (axes[0], "norms", "register_norms", "norm (L2)"),
        (axes[1], "attention", "register_attention", "CLS attention"),
    ):
        groups = [
            np.concatenate([getattr(c.after.maps, name).ravel() for c in comparisons])
            for name in (patches, registers)
        ]
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
