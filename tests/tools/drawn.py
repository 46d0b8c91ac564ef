"""What an interactive figure holds, by the names on its axes."""

from __future__ import annotations

from typing import Any

NAN = float("nan")
CONDITIONS = ("full", "registers:zero", "registers:mean", "cls:mean", "patches-4:zero")


def cell(figure: Any, row: str, column: str, name: str) -> Any:
    """Return what a heat map holds in a cell: its number ``z``, its ``text`` or its ``hovertext``."""
    trace = figure.data[0]
    return trace[name][list(trace.y).index(row)][list(trace.x).index(column)]
