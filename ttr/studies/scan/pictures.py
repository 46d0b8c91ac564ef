"""Picture of a scan: the share of outlier patches by block, a panel a size, a line a model."""

from __future__ import annotations

import pandas as pd

from ttr.drawing.maps import LINES, block_ticks, finish, pair_of_axes
from ttr.wording import shortened


def shares_by_block(table: pd.DataFrame) -> str:
    """Draw the outlier share by block, all panels on one scale, as a data URI.

    Args:
        table: as :func:`ttr.studies.scan.tables.by_block` makes it.
    """
    sizes, models = (list(dict.fromkeys(table[name])) for name in ("size", "model"))
    highest = 100 * float(table["outlier_share"].max())
    dashes = ("-", "--", ":", "-.")
    figure, axes = pair_of_axes(len(sizes))
    for axis, size in zip(axes, sizes, strict=True):
        here = table[table["size"] == size]
        for name, rows in here.groupby("model", sort=False):
            place = models.index(name)
            colour, marker = LINES[place % len(LINES)]
            shares, low, high = (100 * rows[each] for each in ("outlier_share", "ci_low", "ci_high"))
            # Lines that lie on each other, as clean models do, stay visible: the first is the thickest.
            width = 1.2 + 3 * (1 - (place + 1) / len(models))
            style = {"color": colour, "marker": marker, "linewidth": width, "markersize": 3 + 2 * width}
            style["linestyle"] = dashes[place // len(LINES) % len(dashes)]
            axis.plot(rows["block"], shares, label=shortened(str(name), 30), **style)
            axis.fill_between(rows["block"], low, high, color=colour, alpha=0.15, linewidth=0)
        top = max(1.0, 1.3 * highest)
        axis.set(xlabel="block", ylabel="outlier patches, %", title=f"{size} px", ylim=(-0.03 * top, top))
        axis.set_xticks(block_ticks(int(here["block"].max()) + 1))
        axis.legend(frameon=False, fontsize=8)
    return finish(figure)
