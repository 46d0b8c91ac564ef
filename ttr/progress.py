"""A progress bar with a rate and an estimate, on standard error.

It is gone when the work fails: errors stand alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


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
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Items a second, as they were lately."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:,.1f}/s" if speed else "")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total)
        try:
            yield lambda done: bar.advance(task, done)
        except BaseException:
            bar.live.transient = True
            bar.console.quiet = not bar.console.is_terminal
            raise
