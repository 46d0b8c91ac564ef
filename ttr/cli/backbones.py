"""``ttr backbones``: the catalog, and what of it lies on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer


def backbones(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """List the published backbones that have a short name, and which are cached on this machine.

    Every other timm or open_clip architecture loads behind its prefix, timm:NAME or open_clip:NAME/TAG.
    Nothing is fetched: weights come when a command is given --pretrained, or from a file with --weights.

    \b
    Example:
      ttr backbones
      ttr detect --backbone dinov2-vit-l-14 --pretrained --image-size 224 --images chests/ --out neurons.json
    """
    from ttr.catalog import catalog

    entries = [{**asdict(entry), "cached": entry.is_cached()} for entry in catalog().values()]
    if as_json:
        typer.echo(json.dumps(entries, indent=2))
        return
    from rich.console import Console
    from rich.table import Column, Table

    name = Column("name", no_wrap=True, min_width=max(len(entry["name"]) for entry in entries))
    table = Table(name, "px", "reg", "dim", "licence", "cached", "preset")
    for entry in entries:
        table.add_row(
            entry["name"],
            str(entry["image_size"]),
            str(entry["registers"]),
            str(entry["embedding"]),
            entry["licence"],
            "yes" if entry["cached"] else "no",
            "yes" if entry["preset"] else "no",
        )
    Console().print(table)
    typer.echo("phantom, phantom-reg4 and phantom-clip are built on the spot and need no weights")
