"""How each command of ``ttr reproduce`` ends."""

from __future__ import annotations

from pathlib import Path

import typer

from ttr.cli.tables import print_path


def finish(missing: list[str], out: Path, file: str = "reproduction.csv") -> None:
    """Name what is missing and the file to open; the exit status is 1 if anything is."""
    for reason in missing:
        typer.echo(f"missing: {reason}")
    print_path(out / file)
    if missing:
        raise typer.Exit(1)
