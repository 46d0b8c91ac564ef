"""Parts of a tab over an ablation: some widgets, their values for a folder, and what stands there without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from ttr.apps.html import explanations
from ttr.studies.ablate.folder import Folder

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Section:
    """Widgets and the values they take for a folder, in one order."""

    outputs: list[Any]
    show: Callable[[Folder], list[Any]]

    def where(self, table: str, missing: gr.HTML, body: gr.Column, how: str) -> Section:
        """Return the part that gives way to a word on ``how`` to make its table where that is not there."""

        def show(folder: Folder) -> list[Any]:
            if table in folder.tables:
                return ["", gr.update(visible=True), *self.show(folder)]
            said = explanations.missing(f"{table}.csv", how)
            return [said, gr.update(visible=False), *(gr.skip() for _ in self.outputs)]

        return Section([missing, body, *self.outputs], show)


def heading(text: str) -> None:
    """Lay out the heading of a part."""
    from markupsafe import escape

    gr.HTML(f"<h3>{escape(text)}</h3>", elem_classes="ttr-heading")


def values_of(table: pd.DataFrame, column: str) -> list[str]:
    """Return the values of a column, each once, in order."""
    return list(dict.fromkeys(table[column]))
