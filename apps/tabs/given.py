"""What a visitor gives is known at once, though it may never arrive: too large, no room, a bad line."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from typing import Any

import gradio as gr

SCRIPT = resources.files("ttr").joinpath("templates", "app_given.js").read_text(encoding="utf-8")


def given(*identities: str) -> Callable[..., Any]:
    """Lay out what nobody sees; return its event: files were chosen for, or dropped on, a widget.

    The library says nothing of an upload that it refuses but a passing word. What is shown must not wait for
    it: beside the name of the new file the former image would stay.

    Args:
        identities: ``elem_id`` of the widgets for files.
    """
    widgets = ", ".join(f"#{each}" for each in identities)
    seen = gr.HTML(visible="hidden", js_on_load=SCRIPT.replace("WIDGETS", json.dumps(widgets)))
    return seen.upload
