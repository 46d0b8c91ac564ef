"""What holds for every command before it runs: the file that it writes is none of those that it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from ttr.cli.help import SectionedCommand, first_sentence
from ttr.errors import OutputError


class Command(SectionedCommand):
    """A command whose ``--out`` is looked at beside all else that it was given."""

    def invoke(self, ctx: Any) -> Any:
        """Run it.

        Raises:
            OutputError: ``--out`` is a file that it was given to read.
        """
        out = ctx.params.get("out")
        if isinstance(out, Path) and out.is_file():
            for name, value in ctx.params.items():
                if name != "out" and any(out.samefile(file) for file in _files(value)):
                    raise OutputError(f"{out} was given to be read, too; choose another place for --out")
        return super().invoke(ctx)


class Commands(typer.Typer):
    """Commands, each a :class:`Command`."""

    def command(self, *args: Any, **options: Any) -> Callable[..., Any]:
        """Return the decorator of typer."""

        def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
            said = {"cls": Command, "short_help": first_sentence(function.__doc__), **options}
            return super(Commands, self).command(*args, **said)(function)

        return decorated

    def add_typer(self, typer_instance: typer.Typer, **options: Any) -> None:
        """Add commands under a name, listed with the whole first sentence of their help."""
        said = {"short_help": first_sentence(typer_instance.info.help), **options}
        super().add_typer(typer_instance, **said)


def _files(value: Any) -> Iterator[Path]:
    """Yield those values of an option, or of a list of them, that are files which are there."""
    for each in value if isinstance(value, list | tuple) else (value,):
        try:
            if isinstance(each, str | Path) and Path(each).is_file():
                yield Path(each)
        except (OSError, ValueError):  # no name of a file
            continue
