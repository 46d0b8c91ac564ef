"""``ttr backbones``: the catalog, and what of it lies on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from ttr.cli.terminal import print_table


def backbones(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show all that is known of this one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """List the published backbones that have a short name, and which are cached on this machine.

    With NAME, show one whole: what it loads, licence, source, preprocessing, published detection settings.

    Every other timm or open_clip architecture loads behind its prefix, timm:NAME or open_clip:NAME/TAG.
    Nothing is fetched: weights come when a command is given --pretrained, or from a file with --weights.

    \b
    Example:
      ttr backbones
      ttr backbones dinov2-vit-l-14
      ttr detect --backbone dinov2-vit-l-14 --pretrained --image-size 224 --images chests/ --out neurons.json
    """
    from ttr.backbones import real
    from ttr.backbones.catalog import catalog
    from ttr.errors import ModelError

    if name is not None and name not in catalog():
        raise ModelError(f"{name!r} has no short name; needed one of: {', '.join(catalog())}")
    chosen = catalog().values() if name is None else [catalog()[name]]
    installed = real.NAME if real.found() else None
    entries = [
        {**asdict(entry), "cached": entry.is_cached(), "installed": entry.name == installed}
        for entry in chosen
    ]
    if as_json:
        typer.echo(json.dumps(entries, indent=2))
        return
    from rich.table import Column, Table

    if name is not None:
        one = Table("field", "value", title=name, title_justify="left")
        for field, value in entries[0].items():
            text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
            one.add_row(field, text)
        print_table(one)
        return
    names = Column("name", no_wrap=True)
    table = Table(names, "px", "reg", "dim", "licence", "cached", "preset")
    for entry in entries:
        table.add_row(
            entry["name"],
            str(entry["image_size"]),
            str(entry["registers"]),
            str(entry["embedding"]),
            entry["licence"],
            "yes" if entry["cached"] else "installed" if entry["installed"] else "no",
            "yes" if entry["preset"] else "no",
        )
    print_table(table)
    typer.echo(
        "phantom, phantom-reg4, phantom-clip, phantom-patches, phantom-registers, phantom-skip, "
        "phantom-constant, phantom-sink and phantom-offset are built on the spot and need no weights; "
        "phantom-dinov2 is a dinov2-vit-s-14 with artifacts"
    )
