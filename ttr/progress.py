"""A progress bar with a rate and an estimate, on standard error; in a log, a line a minute instead.

It is gone when the work fails: errors stand alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.progress import Task

#: Seconds between two lines in a log.
EVERY = 60.0


class Advance(Protocol):
    """Call with the number of items that are done now."""

    def __call__(self, done: int) -> None:
        """Move the bar by ``done`` items."""


@contextmanager
def progress_bar(label: str, total: int | None, *, show: bool) -> Iterator[Advance]:
    """Yield a function that advances a bar of ``total`` items (None: unknown)."""
    if not show:
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    count = TextColumn("{task.completed:,.0f}") if total is None else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), count, _rate_column())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, get_time=time.monotonic) as bar:
        task = bar.add_task(label, total=total)
        said = time.monotonic()

        def advance(done: int) -> None:
            nonlocal said
            bar.advance(task, done)
            if not bar.console.is_terminal and time.monotonic() - said >= EVERY:
                said = time.monotonic()
                bar.console.print(_line(bar.tasks[0]), highlight=False)

        try:
            yield advance
        except BaseException:
            bar.live.transient = True
            bar.console.quiet = not bar.console.is_terminal
            raise


def _rate_column() -> Any:
    from rich.progress import ProgressColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        """Items a second, as they were lately."""

        def render(self, task: Task) -> Text:
            """Return them, or nothing where they are not known yet."""
            return Text(_rate(task))

    return Rate()


def _rate(task: Task) -> str:
    speed = task.finished_speed or task.speed
    return f"{speed:,.1f}/s" if speed else ""


def _line(task: Task) -> str:
    """Return how far a task is, in words."""
    of = "" if task.total is None else f" of {task.total:,.0f}"
    left = task.time_remaining
    estimate = "" if left is None else f"about {left / 60:,.0f} min left"
    return ", ".join(filter(None, (f"{task.description}: {task.completed:,.0f}{of}", _rate(task), estimate)))
