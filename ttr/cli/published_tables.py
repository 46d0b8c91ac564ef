"""Published numbers beside measured ones, a column each, at the end of ``ttr reproduce``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from ttr.cli.terminal import print_table
from ttr.drawing.tables import printed
from ttr.wording import listed, p_text

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.console import Console

    from ttr.studies.reproduce.published import PublishedStudy


def show_reproduction(table: DataFrame, study: PublishedStudy, instead: str | None = None) -> None:
    """Print published beside measured, a column each, the study's notes, and what was measured instead.

    Args:
        table: one row a number: the study's keys, published, measured, ci_low, ci_high, verdict, missing.
        study: whose numbers these are; its first key makes tables, its last one rows, the others sections.
        instead: the backbone that was measured in place of the published ones, if any.
    """
    from itertools import groupby

    from rich.console import Console
    from rich.table import Column, Table

    console = Console()
    typer.echo(study.source)
    for first, of_first in groupby(table.to_dict("records"), key=lambda row: row[study.keys[0]]):
        columns = [f"measured on {instead}" if instead else "measured", "95 % interval", "verdict"]
        right = [Column(name, justify="right") for name in ("published", *columns)]
        shown = Table(Column(study.keys[-1], no_wrap=True), *right, title_justify="left", pad_edge=False)
        shown.title = ", ".join(filter(None, (first, study.metric, _units(study))))
        for section, rows in groupby(of_first, key=lambda row: ", ".join(row[k] for k in study.keys[1:-1])):
            shown.add_section()
            shown.add_row(section, style="bold")
            for row in rows:
                shown.add_row(str(row[study.keys[-1]]), *_beside(row, study))
        print_table(shown)
    _show_notes(console, study, instead)


def _show_notes(console: Console, study: PublishedStudy, instead: str | None, of: str = "backbones") -> None:
    """Print what one must know of a study, and what was measured instead of what it is ``of``."""
    for note in study.notes:
        console.print(f"- {note}", highlight=False, markup=False)
    if instead is not None:
        console.print(
            f"A REHEARSAL: {instead} {'were' if ', ' in instead else 'was'} measured in place of the "
            f"published {of}. The published column is of other models; the two cannot be compared.",
            style="bold red",
            highlight=False,
        )


def show_maps(table: DataFrame, study: PublishedStudy, instead: str | None = None) -> None:
    """Print each cell of which something is known: published, then a column an arm and a map of no model.

    Args:
        table: as :func:`ttr.studies.reproduce.attention_maps.reproduce_attention_maps` returns it.
        study: whose metrics are printed; the others, and intervals, are in the file.
        instead: models and sets that were measured in place of the study's, if any.
    """
    from rich.console import Console
    from rich.table import Column, Table

    typer.echo(study.source)
    for (model, name), cell in table.groupby(["model", "set"], sort=False):
        if cell.measured.isna().all() and cell.published.isna().all():
            continue
        arms = list(dict.fromkeys(cell.arm))
        heads = (Column(head, justify="right") for head in ("published", *arms, "random-map", "centre-map"))
        shown = Table(Column("metric", no_wrap=True), *heads, title_justify="left", pad_edge=False)
        shown.title = f"{model} on {name}: per cent"
        for method, rows in cell.groupby("method", sort=False):
            shown.add_section()
            shown.add_row(str(method), style="bold")
            own = rows.set_index(["arm", "metric"])
            for metric in study.settings["metrics"]:
                first = own.loc[arms[0], metric]
                measured = (own.loc[arm, metric].measured for arm in arms)
                published = rows[rows.metric == metric].published.max()
                numbers = (published, *measured, first.random_map, first.centre_map)
                shown.add_row(metric, *("–" if value != value else f"{100 * value:.1f}" for value in numbers))
        print_table(shown)
    _show_notes(Console(), study, instead, "models and sets")


def show_metrics(table: DataFrame) -> None:
    """Print every metric of the arms of the measured cells, a column each; intervals are in the file.

    Args:
        table: as :func:`ttr.studies.reproduce.medical.reproduce_medical` returns it.
    """
    from rich.console import Console
    from rich.table import Column, Table

    arms = table[(table.missing == "") & ~table.arm.str.contains(" - ")]
    names = list(dict.fromkeys(arms.metric))
    words = (name.removesuffix("_macro").removesuffix("_ovr") for name in names)
    heads = [Column(word, justify="right", no_wrap=True) for word in words]
    for backbone, of_backbone in arms.groupby("backbone", sort=False):
        shown = Table("arm", *heads, title_justify="left", pad_edge=False)
        shown.title = f"{backbone}: per cent; macro averages; auc of one against the rest"
        for dataset, cell in of_backbone.groupby("dataset", sort=False):
            shown.add_section()
            shown.add_row(str(dataset), style="bold")
            for arm, rows in cell.groupby("arm", sort=False):
                values = rows.set_index("metric").measured
                cells = (_in_per_cent(name, values[name]) for name in names)
                shown.add_row(str(arm), *cells)
        Console().print(shown, highlight=False, markup=False)


def _in_per_cent(metric: str, value: float) -> str:
    """Return a share in per cent; a weighted kappa, which is none, as it is."""
    if value != value:
        return "–"
    return f"{value:.3f}" if metric == "qwk" else f"{100 * value:.1f}"


def _units(study: PublishedStudy) -> str:
    """Return in which units a study's numbers are printed, empty where their name says it."""
    if not study.shares:
        return ""
    others = f" ({listed(study.no_shares)} as they are)" if study.no_shares else ""
    return f"per cent, changes in points{others}"


def _beside(row: Mapping[Any, Any], study: PublishedStudy) -> tuple[str, str, str, str]:
    """Return a published and a measured number, the latter's interval and verdict, as cells.

    Shares are in per cent and their changes in points, as on the pages; any other number is as it is.
    """
    from ttr.statistics.verdict import said

    share = study.is_share(row)
    scale, digits = (100, 2) if share else (1, 4)
    sign = "+" if " - " in row[study.keys[-1]] else ""

    def written(name: str) -> str:
        return "–" if row[name] != row[name] else f"{scale * row[name]:{sign}.{digits}f}"

    if row["missing"]:
        return written("published"), "missing", "", ""
    interval = f"{written('ci_low')}..{written('ci_high')}" if row["ci_low"] == row["ci_low"] else "–"
    return written("published"), written("measured"), interval, said(row, points=share)


def show_model_tests(table: DataFrame) -> None:
    """Print the published tests of one model against another beside ours; a row each pair and task.

    Args:
        table: of :func:`ttr.studies.reproduce.model_tests.compare_models`.
    """
    from itertools import groupby

    from rich.table import Column, Table

    from ttr.statistics.verdict import said

    for question, rows in groupby(table.to_dict("records"), key=lambda row: row["question"]):
        numbers = ("published p", "measured p", "difference, points", "verdict")
        shown = Table("models", "task", *(Column(name, justify="right") for name in numbers))
        shown.title, shown.title_justify = question, "left"
        for row in rows:
            cells = ("missing", "", "")
            if not row["missing"]:
                cells = (p_text(row["p"]), printed(row["difference"], "{:+.2f}", 100), said(row))
            models = f"{row['model_a']} against {row['model_b']}"
            shown.add_row(models, row["task"], row["published_p"], *cells)
        print_table(shown)
