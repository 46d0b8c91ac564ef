"""Pictures of a comparison: curves by block, and what patches and registers hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ttr.drawing.maps import AFTER, BEFORE, block_ticks, finish, pair_of_axes
from ttr.drawing.norms_and_attention import patches_and_registers
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

    def all_of(name: str) -> np.ndarray:
        return np.concatenate([getattr(each.after.maps, name).ravel() for each in comparisons])

    return patches_and_registers(
        (all_of("norms"), all_of("register_norms")), (all_of("attention"), all_of("register_attention"))
    )
