"""Pictures: maps over images on a stated scale, and the published figures. Colour-blind-safe throughout.

Every map is drawn with the scale it is given, never with one of its own choosing: a before and an after share
theirs, so that equal colours are equal numbers.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from ttr.studies.compare.comparison import ImageComparison
from ttr.studies.tune.tuning import Row

NORM_MAP = "viridis"
ATTENTION_MAP = "inferno"
SIMILARITY_MAP, DIFFERENCE_MAP = "cividis", "PuOr"
BEFORE, AFTER = "#D55E00", "#0072B2"
LINES = (("#0072B2", "o"), ("#E69F00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#56B4E9", "v"))


def colourise(
    values: np.ndarray, high: float, colour_map: str, size: tuple[int, int], low: float = 0.0
) -> np.ndarray:
    """Colour a patch map on the scale ``low``..``high``, each patch a square, as uint8 [H, W, 3].

    Args:
        values: [rows, columns].
        high: value of the last colour; larger values take it too.
        colour_map: a matplotlib name.
        size: (height, width) in pixels.
        low: value of the first colour; smaller values take it too.
    """
    import matplotlib
    from PIL import Image

    scaled = np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
    colours = (255 * matplotlib.colormaps[colour_map](scaled)[..., :3]).round().astype(np.uint8)
    return np.asarray(Image.fromarray(colours).resize(size[::-1], Image.Resampling.NEAREST))


def overlay(pixels: np.ndarray, values: np.ndarray, high: float, opacity: float = 0.65) -> np.ndarray:
    """Lay an attention map over the greyscale image, uint8 [H, W, 3]; the scale is 0..``high``."""
    grey = pixels.astype(float) @ (0.299, 0.587, 0.114)
    colours = colourise(values, high, ATTENTION_MAP, pixels.shape[:2]).astype(float)
    return ((1 - opacity) * grey[..., None] + opacity * colours).round().astype(np.uint8)


def colour_stops(colour_map: str, count: int = 9) -> str:
    """Return the colours of a map from low to high as a CSS list, for a colour bar."""
    import matplotlib
    from matplotlib.colors import to_hex

    return ", ".join(to_hex(colour) for colour in matplotlib.colormaps[colour_map](np.linspace(0, 1, count)))


def png_uri(pixels: np.ndarray) -> str:
    """Return an image as a data URI."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", optimize=True)
    return uri(stream)


def layer_curves(comparisons: Sequence[ImageComparison]) -> str:
    """Draw the largest patch norm and the largest CLS attention by block, before and after, as a data URI.

    Thick lines are means over the images, thin lines single images.
    """
    figure, axes = _figure(2)
    for axis, name, label in (
        (axes[0], "max_patch_norm", "largest patch norm"),
        (axes[1], "max_patch_attention", "largest CLS attention to a patch"),
    ):
        for run, colour, marker in (("before", BEFORE, "o"), ("after", AFTER, "s")):
            lines = np.array([getattr(getattr(c, run).curves, name) for c in comparisons])
            blocks = np.arange(lines.shape[1])
            axis.plot(blocks, lines.T, color=colour, linewidth=0.6, alpha=0.3)
            axis.plot(blocks, lines.mean(axis=0), color=colour, marker=marker, linewidth=2, label=run)
        axis.set(xlabel="block", ylabel=label, ylim=(0, None), xticks=_ticks(lines.shape[1]))
        axis.legend(frameon=False)
    return finish(figure)


def distributions(comparisons: Sequence[ImageComparison]) -> str:
    """Draw norms and CLS attention of patches and registers at the last block, after, as a data URI."""
    from matplotlib.ticker import LogFormatter

    figure, axes = _figure(2)
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
        for box, colour in zip(boxes["boxes"], (AFTER, "#009E73"), strict=False):
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


def neuron_curves(rows: Sequence[Row]) -> str:
    """Draw outlier share and largest patch norm against top_k, a line for each top layer, as a data URI.

    Shaded: 95 % interval. Dotted: the bare model.
    """
    figure, axes = _figure(2)
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


def register_curves(rows: Sequence[Row]) -> str:
    """Draw the cosine with R = 1, the remaining outliers, and the attention of the registers against R."""
    figure, axes = _figure(2)
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


def _figure(columns: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * columns, 3.2), layout="constrained")
    axes = figure.subplots(1, columns)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _ticks(blocks: int) -> np.ndarray:
    return np.arange(0, blocks, max(1, blocks // 8))


def finish(figure: Any) -> str:
    """Return a figure as a data URI of a PNG on white."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150, facecolor="white")
    return uri(stream)


def uri(stream: io.BytesIO) -> str:
    """Return a PNG in memory as a data URI."""
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
