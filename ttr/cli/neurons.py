"""``ttr neurons``: do several rankings name the same register neurons?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.cli import given, options
from ttr.cli.commands import Commands
from ttr.cli.tables import print_path, show_agreements

if TYPE_CHECKING:
    from ttr.registers.neurons import RegisterNeurons

neurons = Commands(
    help="Register-neuron sets: how far they agree.", no_args_is_help=True, rich_markup_mode=None
)
PUBLISHED = "published:"


@neurons.callback()
def _group() -> None:
    """Register-neuron sets: how far they agree."""


@neurons.command()
def compare(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Two or more files: of ttr detect, a predecessor's register_neurons.pt, or published:NAME "
            "(clip-vit-b-16, dinov2-vit-l-14, dinov2-vit-l-14-natural).",
        ),
    ],
    top: Annotated[
        str, typer.Option("--top", metavar="LIST", help="How many of the first of each ranking to compare.")
    ] = "5,10,20,50",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the table, .csv or .json.", callback=given.out_file),
    ] = None,
) -> None:
    """Compare every two sets of register neurons: of other images, another detection, or a publication.

    Overlap is the share of neurons that both name, of what each keeps and of the head of each ranking, with
    what random neurons of the same blocks would share beside it. Only blocks that both allow count. Where a
    set was found with ttr detect --halves, the overlap of halves of its own images stands beside: two sets
    cannot be asked to agree more than that.

    \b
    Columns (empty where they do not apply):
      first, second, top         the two, and how many of each; kept: what each keeps
      weights                    same, other or unknown: whether both were found on the same
      shared, overlap            neurons in both, and their share of the smaller
      chance, p                  what random neurons share, and how often as many or more (hypergeometric)
      rbo                        rank-biased overlap of the two lists
      kendall, spearman          over all neurons of the blocks, where both rank all
      within_first, _second      overlap of halves of their own images, with _low and _high

    \b
    Example:
      ttr neurons compare hips.json pacemakers.json published:dinov2-vit-l-14 --out agreement.csv
    """
    from ttr.errors import OptionError

    heads = options.parse_numbers("--top", top)
    if min(heads) < 1:
        raise OptionError(f"--top {top}; needed numbers from 1 on")
    if out is not None and out.suffix not in (".csv", ".json"):
        raise OptionError(f"--out {out}; needed a name that ends in .csv or .json")
    places = {name if name.startswith(PUBLISHED) else Path(name).resolve() for name in files}
    if len(files) < 2 or len(places) < len(files):
        raise OptionError(f"got {', '.join(files)}; needed two or more sets, each once")
    from ttr.registers.agreement import agreements, write_agreements

    found = agreements({name: _load(name) for name in files}, heads)
    show_agreements(found)
    others = dict.fromkeys(f"{each.first} and {each.second}" for each in found if each.weights == "other")
    for pair in others:
        typer.echo(f"{pair} were found on other weights: a neuron of one need not be that of the other")
    if out is not None:
        write_agreements(found, out)
        print_path(out)


def _load(name: str) -> RegisterNeurons:
    """Return a set from a file, or a published one.

    Raises:
        NeuronsError: it is neither.
    """
    from ttr.backbones.catalog import published_neurons
    from ttr.registers.neurons import RegisterNeurons

    if name.startswith(PUBLISHED):
        return RegisterNeurons.load(published_neurons(name.removeprefix(PUBLISHED)))
    return RegisterNeurons.load(name)
