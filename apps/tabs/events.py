"""How the page's events run: which wait for each other, which answer at once, and what a refusal becomes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gradio as gr

from ttr.apps.html import panels
from ttr.errors import TTRError

#: Seconds after which what a visitor opened is forgotten, and between two looks at what may be.
FORGOTTEN, SWEPT = 3600, 600
#: Model passes of all sections wait in one queue.
ALONE: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
#: What makes room for a pass waits for its turn too, unseen: it must not come after what it made room for.
IN_ORDER: dict[str, Any] = {**ALONE, "show_progress": "hidden"}
#: What only looks another way at what was computed answers at once.
AT_ONCE: dict[str, Any] = {
    "queue": False,
    "show_progress": "hidden",
    "trigger_mode": "always_last",
    "api_visibility": "private",
}
#: What runs in the browser alone.
IN_BROWSER: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


def guarded(work: Callable[[], list[Any]], outputs: int, message: int = 1) -> list[Any]:
    """Do the work; a refusal becomes one sentence in output ``message``, and the others stay as they were.

    What was not foreseen is named by its kind alone: its text may hold a path.
    """
    try:
        return work()
    except TTRError as error:
        said = str(error)
    except Exception as error:
        logging.getLogger("ttr.apps").debug("an event failed", exc_info=True)
        said = f"this did not work ({type(error).__name__}); the page itself is well, try another image"
    kept: list[Any] = [gr.skip() for _ in range(outputs)]
    kept[message] = panels.message(said)
    return kept
