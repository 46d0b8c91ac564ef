"""Figures of an ablation's attention: the nine flows with each register's share, by block, and divergence."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

import pandas as pd

from ttr.drawing.charts import SYMBOLS, Grid, axis, band, figure, heatmap, interval, line, substitute_of
from ttr.drawing.colours import BLUE, GREEN, VERMILLION
from ttr.studies.ablate.task_charts import condition_colour

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

GROUPS = ("cls", "registers", "patches")
NAMES = {"cls": "CLS", "registers": "registers", "patches": "patches"}
COLOURS = {"cls": GREEN, "registers": VERMILLION, "patches": BLUE}
#: Of whole register sets solid, of single registers dotted, of the rest dashed.
DASHES = {"registers": "solid", "test-time": "solid", "cls": "dash", "patches": "dashdot"}


def attention_flows(attention: pd.DataFrame, condition: str, block: int) -> Figure:
    """Draw the nine source -> target flows of one block, and beside them the share of each single register.

    Args:
        attention: columns of :func:`ttr.studies.ablate.analysis_tables.attention`; a row of the three groups
            sums to 1.
        condition: which one.
        block: counted from 0.
    """
    here = attention[(attention["condition"] == condition) & (attention["block"] == block)]
    known = {(row["source"], row["target"]): row for row in here.to_dict("records")}
    targets = [*GROUPS, *dict.fromkeys(t for t in attention["target"] if t not in GROUPS)]
    found = [[known.get((source, target)) for target in targets] for source in GROUPS]

    def hover(cell: dict) -> str:
        return (
            f"<b>{NAMES[cell['source']]} → {NAMES.get(cell['target'], cell['target'])}</b>, "
            f"block {block}, {condition}<br>share {cell['share']:.4f}, "
            f"{interval(cell['ci_low'], cell['ci_high'], '{:.4f}')}, n = {cell['n']}"
        )

    grid = Grid(
        [f"to {NAMES[target]}" if target in GROUPS else target for target in targets],
        [f"from {NAMES[source]}" for source in GROUPS],
        found,
        value=itemgetter("share"),
        text=lambda cell: f"{cell['share']:.3f}",
        hover=hover,
    )
    shown = heatmap(grid, unit="share", span=(0, 1), height=250, top=48)
    if len(targets) > len(GROUPS):
        edge = {"x0": 2.5, "x1": 2.5, "y0": -0.5, "y1": 2.5}
        shown.add_shape(type="line", line={"color": "rgba(128,128,128,0.9)", "width": 2}, **edge)
    return shown


def attention_by_block(attention: pd.DataFrame, condition: str, source: str) -> Figure:
    """Draw where the attention of one source goes, block by block, with 95 % intervals.

    Args:
        attention: as for :func:`attention_flows`.
        condition: which one.
        source: ``cls``, ``registers`` or ``patches``.
    """
    here = attention[(attention["condition"] == condition) & (attention["source"] == source)]
    traces = []
    single = list(dict.fromkeys(t for t in attention["target"] if t not in GROUPS))
    for place, target in enumerate([*GROUPS, *single]):
        rows = here[here["target"] == target].sort_values("block")
        if rows.empty:
            continue
        colour = COLOURS.get(target, VERMILLION)
        blocks = rows["block"].tolist()
        if target in GROUPS:
            traces.append(band(blocks, rows["ci_low"].tolist(), rows["ci_high"].tolist(), colour))
        drawn = line(
            blocks,
            rows["share"].tolist(),
            NAMES.get(target, target),
            place,
            colour=colour,
            dash="solid" if target in GROUPS else "dot",
            hovertext=[
                f"<b>{NAMES[source]} → {NAMES.get(target, target)}</b>, block {row.block}<br>"
                f"share {row.share:.4f}, {interval(row.ci_low, row.ci_high, '{:.4f}')}"
                for row in rows.itertuples()
            ],
        )
        if target not in GROUPS:
            drawn.update(line={"width": 1}, marker={"size": 5})
        traces.append(drawn)
    below = axis("block", dtick=_tick(attention["block"]))
    return figure(traces, x=below, y=axis(f"attention of {NAMES[source]}, share", range=[0, 1.02]))


def divergence_curves(divergence: pd.DataFrame, source: str) -> Figure:
    """Draw how far one source's attention is from the full condition's, block by block, a line a condition.

    Args:
        divergence: columns of :func:`ttr.studies.ablate.analysis_tables.divergence`; nats, 0..ln 2.
        source: ``cls``, ``registers`` or ``patches``.
    """
    here = divergence[(divergence["source"] == source) & (divergence["condition"] != "full")]
    traces = []
    for place, (condition, rows) in enumerate(here.groupby("condition", sort=False)):
        rows = rows.sort_values("block")
        colour, blocks = condition_colour(str(condition)), rows["block"].tolist()
        traces += [
            band(blocks, rows["ci_low"].tolist(), rows["ci_high"].tolist(), colour, legendgroup=condition),
            line(
                blocks,
                rows["js"].tolist(),
                str(condition),
                place % len(SYMBOLS),
                colour=colour,
                dash=_dash(str(condition)),
                legendgroup=condition,
                hovertext=[
                    f"<b>{condition}</b>, block {row.block}, from {NAMES[source]}<br>"
                    f"JS {row.js:.4f} nats, {interval(row.ci_low, row.ci_high, '{:.4f}')}"
                    for row in rows.itertuples()
                ],
            ),
        ]
    below = axis("block", dtick=_tick(divergence["block"]))
    return figure(traces, height=460, x=below, y=axis("JS divergence, nats", rangemode="tozero"))


def _dash(condition: str) -> str:
    tokens = condition.partition(":")[0]
    if "@" in condition or not substitute_of(condition):
        return "longdash"
    return DASHES.get(
        tokens, DASHES.get(tokens.rsplit("-", 1)[0] if tokens.startswith("patches") else "", "dot")
    )


def _tick(blocks: pd.Series) -> int:
    return 1 + int(blocks.max()) // 12
