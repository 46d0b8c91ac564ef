"""Pictures of a tuning: outliers against neurons, and what more registers change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ttr.drawing.maps import AFTER, BEFORE, LINES, finish, pair_of_axes
from ttr.studies.tune.tuning import SweepRow


def neuron_curves(rows: Sequence[SweepRow]) -> str:
    """Draw outlier share and largest patch norm against top_k, a line for each top layer, as a data URI.

    Shaded: 95 % interval. Dotted: the bare model.
    """
    figure, axes = pair_of_axes(2)
    bare, swept = rows[0], [row for row in rows if row.sweep == "neurons"]
    for index, block in enumerate(sorted({row.top_layer or 0 for row in swept})):
        colour, marker = LINES[index % len(LINES)]
        line = [row for row in swept if row.top_layer == block]
        k = [row.top_k for row in line]
        style: dict[str, Any] = {"color": colour, "marker": marker, "label": f"blocks 0..{block}"}
        axes[0].plot(k, [row.outlier_share for row in line], **style)
        ends = [[getattr(row, f"outlier_share_{end}") for row in line] for end in ("low", "high")]
        axes[0].fill_between(k, *ends, color=colour, alpha=0.2, linewidth=0)
        axes[1].plot(k, [row.max_patch_norm for row in line], **style)
    for axis, level in ((axes[0], bare.outlier_share), (axes[1], bare.max_patch_norm)):
        axis.axhline(level, color="black", linestyle=":", label="bare model")
        axis.set(xscale="log", xlabel="top_k (neurons moved)", ylim=(0, None))
        shown = sorted({row.top_k for row in swept if row.top_k})
        axis.set_xticks(shown[:: 1 + len(shown) // 12])
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("")
    axes[0].set_ylabel("share of outlier patches")
    axes[1].set_ylabel("largest patch norm")
    axes[1].legend(frameon=False)
    return finish(figure)


def register_curves(rows: Sequence[SweepRow]) -> str:
    """Draw the cosine with R = 1, the remaining outliers, and the attention of the registers against R."""
    figure, axes = pair_of_axes(2)
    registers = [row.num_registers for row in rows]
    for axis, name, label in (
        (axes[0], "cosine", "cosine of the embedding with R = 1"),
        (axes[1], "outlier_share", "share of outlier patches"),
    ):
        values, low, high = (
            np.array([getattr(row, name + end) for row in rows], dtype=float) for end in ("", "_low", "_high")
        )
        axis.plot(registers, values, color=AFTER, marker="o", label=label)
        axis.fill_between(registers, low, high, color=AFTER, alpha=0.2, linewidth=0)
        axis.set(xlabel="R (test-time registers)", ylabel=label)
        axis.xaxis.get_major_locator().set_params(integer=True)
    if all(row.register_attention is not None for row in rows):
        attention = [row.register_attention for row in rows]
        axes[1].plot(registers, attention, color=BEFORE, marker="s", label="CLS attention held by registers")
        axes[1].set(ylabel="share, 0 to 1")
    axes[1].set_ylim(0, None)
    axes[1].legend(frameon=False)
    return finish(figure)
