"""``ttr report``: the page of an ablation, or of several beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttr.cli import given, options
from ttr.cli.tables import print_path


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Folders that ttr ablate (and ttr integrate) wrote."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="HTML file; default: index.html in the first ablation.",
            callback=given.out_file,
        ),
    ] = None,
    anonymous: options.Anonymous = False,
) -> None:
    """One self-contained page of an ablation: every figure, table and picture, to open from disk, offline.

    The page holds the ablation heatmap, attention flows by block, layer-wise probes, norm, PCA and attention
    maps of a few images under every condition, the register gallery, single against collective zeroing, and
    what made them. An analysis that the folder lacks is named with the option that makes it.

    Several folders of ttr ablate are compared: does a condition cost one model more, on the same images? A
    folder of ttr integrate, or an integration.csv in one of them, adds how faithful the map is.

    \b
    Example:
      ttr report ablation/
      ttr report ablation-a/ ablation-b/ integration/ --out models.html
    """
    from ttr.studies.schemas import schema_of

    for folder in folders:  # what is none is refused before libraries that draw are imported
        schema_of(folder)
    from ttr.studies.ablate.report import default_page, write_report

    page = out if out is not None else default_page(folders)
    print_path(write_report(folders, page, anonymous=anonymous))
