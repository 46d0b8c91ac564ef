"""A progress bar with an estimate, on standard error; gone when the work fails: errors stand alone."""

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
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total)
        try:
            yield lambda done: bar.advance(task, done)
        except BaseException:
            bar.live.transient = True
            bar.console.quiet = not bar.console.is_terminal
            raise
