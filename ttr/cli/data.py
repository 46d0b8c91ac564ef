"""``ttr data``: what is known of the labelled sets, and whether yours would mislead a benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.cli import given, options
from ttr.cli.commands import Commands
from ttr.cli.tables import print_path
from ttr.cli.terminal import print_table

if TYPE_CHECKING:
    from ttr.datasets.audit import Audit, Entry

SHOWN = 10

data = Commands(
    help="Labelled sets: what is known of them, and whether yours would mislead a benchmark.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@data.command()
def info(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A set; without it, all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Show a set's card: what one must know before trusting a number on it. Without a name, list the sets.

    No set is ever fetched; the card says where it comes from and how its files must lie.

    \b
    Example:
      ttr data info
      ttr data info aptos
    """
    from dataclasses import asdict

    from ttr.datasets.registry import LOADERS, loader

    chosen = LOADERS if name is None else {name: loader(name)}
    cards = {key: {"name": key, **asdict(kind.card), "root": kind.root} for key, kind in chosen.items()}
    if as_json:
        typer.echo(json.dumps(list(cards.values()) if name is None else cards[name], indent=2))
        return
    from rich.console import Console
    from rich.table import Column, Table

    if name is None:
        table = Table(Column("name", no_wrap=True), "set", "classes", "root")
        for card in cards.values():
            table.add_row(card["name"], card["title"], card["classes"], card["root"] or "none")
        print_table(table)
    else:
        table = Table.grid("", "", padding=(0, 2))
        for key, value in cards[name].items():
            table.add_row(key.replace("_", " "), value or "none")
        Console().print(table, highlight=False, markup=False)


@data.command()
def check(
    dataset: options.DatasetName,
    root: options.DatasetRoot = None,
    finding: options.Finding = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write everything found, as JSON.", callback=given.out_file),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print that JSON, and nothing else.")] = False,
    anonymous: options.Anonymous = False,
    quiet: options.Quiet = False,
) -> None:
    """Read every image of a labelled set and say whether it would mislead a benchmark.

    It would if images are missing or damaged, if a picture of the test split is in another split too (the
    same file, or saved anew), if duplicates have different labels, or if a group (a patient) stands in more
    than one split. The exit status is then 1. Other findings are warnings: duplicates that agree within a
    split or between training and validation, pairs that look alike, small classes, missing splits, masks.
    Where a set names no patients, the verdict says so; a set of a single class is refused.

    \b
    Example:
      ttr data check --dataset aptos --root ~/aptos2019 --out audit.json
    """
    from ttr.datasets.audit import audit
    from ttr.datasets.registry import open_dataset, require_classes
    from ttr.files import write_json

    labelled = open_dataset(dataset, root, finding=finding)
    if labelled.masks is None:  # else its pixels are what is told apart
        require_classes(labelled)
    found = audit(labelled.anonymous() if anonymous else labelled, progress=not quiet)
    if out is not None:
        write_json(out, found.to_json())
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        show_audit(found)
        if out is not None:
            print_path(out)
    if found.causes:
        raise typer.Exit(1)


def show_audit(audit: Audit) -> None:
    """Print the cases, the counts by class and split, the findings, and the verdict."""
    from rich.table import Table

    from ttr.datasets.audit import KINDS

    for kind, entries in audit.findings.items():
        typer.echo(f"{KINDS[kind][1]}:")
        for entry in entries[:SHOWN]:
            typer.echo(f"  {_line(entry)}")
        if len(entries) > SHOWN:
            typer.echo(f"  ... and {len(entries) - SHOWN} more (--json or --out lists all)")
    table = Table(title="images", title_justify="left")
    table.add_column("class")
    for split in audit.counts:
        table.add_column(split, justify="right")
    rows = {label: [audit.counts[s][label] for s in audit.counts] for label in audit.counts["train"]}
    rows["all"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    for label, numbers in rows.items():
        table.add_row(label, *map(str, numbers))
    print_table(table)
    if audit.imbalance == 1:
        typer.echo("All classes have the same number of training images.")
    else:
        typer.echo(
            f"The largest class has {audit.imbalance:.1f} times as many training images as the smallest."
        )
    if audit.findings:
        table = Table("finding", "cases", "misleads")
        for kind, entries in audit.findings.items():
            misleads, what = KINDS[kind]
            table.add_row(what, str(len(entries)), "yes" if misleads else "no")
        print_table(table)
    for note in audit.notes:
        typer.echo(note)
    if audit.causes:
        causes = "; ".join(KINDS[kind][1] for kind in audit.causes)
        typer.echo(f"{audit.dataset} would mislead a benchmark: {causes}")
    else:
        typer.echo(f"{audit.dataset}: nothing found that would mislead a benchmark{audit.unchecked}")


def _line(entry: Entry) -> str:
    """Return a case in a line: the first images with split and label, and what is the matter."""
    shown = [f"{item.name} ({item.split}, {item.label})" for item in entry.items[:4]]
    if len(entry.items) > 4:
        shown.append(f"{len(entry.items) - 4} more")
    parts = [" | ".join(shown), entry.detail]
    if entry.correlation is not None:
        parts.append(f"correlation {entry.correlation:.3f}, {entry.distance} bits apart")
    return ": ".join(part for part in parts if part)
