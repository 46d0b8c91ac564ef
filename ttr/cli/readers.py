"""``ttr readers``: images read by people, with and without maps; prepared, served, analysed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.cli import given, options
from ttr.cli.commands import Commands
from ttr.cli.groups import Group, grouped
from ttr.cli.listening import ListeningOptions
from ttr.cli.loading import load_with_neurons
from ttr.cli.tables import print_path, show_skipped

if TYPE_CHECKING:
    from ttr.studies.reading.settings import ReadingSettings

IN_EIGHTS = options.ReadingOptions(batch_size=8)
ON_7861 = ListeningOptions(port=7861)
StudyFolder = Annotated[
    Path, typer.Argument(metavar="DIR", help="A study that ttr readers prepare wrote.", callback=given.root)
]

readers = Commands(
    help="Reader studies: what a map does to people's answers, times and trust.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@dataclass(frozen=True, kw_only=True)
class AskedOptions(Group):
    """What a reader study asks, and of whom."""

    question: Annotated[str, typer.Option(metavar="TEXT", help="Asked of every image.")] = (
        "Is there a finding?"
    )
    answers: Annotated[
        str,
        typer.Option(metavar="LIST", help="Answers to choose from; of two the first is the positive one."),
    ] = "yes,no"
    conditions: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Conditions, of none, before, after: each reader reads each image in each, in as many "
            "sessions.",
        ),
    ] = "none,before,after"
    readers: Annotated[int, typer.Option(min=1, help="How many readers; each gets a code.")] = 6
    catch: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="Share of the images that come again with a map that is not theirs."
        ),
    ] = 0.1
    repeats: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of the images that come again as they were.")
    ] = 0.1
    no_pairs: Annotated[
        bool,
        typer.Option("--no-pairs", help="Do not hold both maps against each other as A and B at the end."),
    ] = False
    washout: Annotated[
        int, typer.Option(metavar="DAYS", min=0, help="Days that should lie between sessions.")
    ] = 14
    num_registers: options.NumRegisters = 1
    variant: options.VariantName = options.Variant.algorithm

    def settings(self) -> ReadingSettings:
        """Return them.

        Raises:
            OptionError: a value is outside its range.
        """
        from ttr.studies.reading.settings import ReadingSettings

        return ReadingSettings(
            question=self.question,
            answers=tuple(options.parse_list(self.answers)),
            conditions=tuple(options.parse_list(self.conditions)),
            readers=self.readers,
            catch=self.catch,
            repeats=self.repeats,
            pairs=not self.no_pairs,
            washout=self.washout,
            num_registers=self.num_registers,
            variant=self.variant.value,
        )


@readers.callback()
def _group() -> None:
    """Reader studies: what a map does to people's answers, times and trust."""


@readers.command()
@grouped
def prepare(
    *,
    images: options.Images,
    frame: options.Frame = None,
    model: options.ModelOptions,
    out: options.OutFolder,
    neurons: options.NeuronsFile = None,
    asked: AskedOptions,
    truth: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="CSV with the columns image and truth (one of the answers)."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Seed of every order: whoever knows it knows what is shown when; default: drawn, and "
            "sealed.",
            show_default=False,
        ),
    ] = None,
    reading: options.ReadingOptions = IN_EIGHTS,
) -> None:
    """Compute and draw every map of a reader study, draw every reader's order, and seal which is which.

    Each reader reads each image alone, with the bare model's map and with the map after test-time registers,
    in sessions of their own, balanced by a Williams design. Maps have no names; some images come once more
    with a map that is not theirs, some as they were. At the end both maps of each image stand side by side as
    A and B. key.json says which is which: keep it to yourself until all have read.

    \b
    Example:
      ttr readers prepare --backbone timm:vit_large_patch14_dinov2 --weights dinov2_l.safetensors \\
          --neurons neurons.json --image-size 518 --truth truth.csv --readers 6 --out study/ chests/
      ttr readers serve study/
      ttr readers analyse study/ --out analysis/
    """
    from ttr.datasets.registry import given_images
    from ttr.studies.reading.prepare import drawn_seed, read_truth, write_reading
    from ttr.wording import counted

    settings, run = asked.settings(), reading.run(model, seed=drawn_seed() if seed is None else seed)
    chosen = given_images(images, frame=frame, anonymous=reading.anonymous)
    known = None if truth is None else read_truth(truth)
    found, backbone = load_with_neurons(neurons, model)
    prepared = write_reading(backbone, found, chosen, out, settings, run, known)
    show_skipped(prepared.skipped)
    sessions = counted(len(settings.conditions), "session")
    shown = counted(prepared.cases, "image")
    typer.echo(f"{shown}; each reader sees {prepared.trials:,} in {sessions}; codes:")
    for reader, code in prepared.codes.items():
        typer.echo(f"  {reader}  {code}")
    typer.echo(f"next: ttr readers serve {out}")


@readers.command()
@grouped
def serve(
    *,
    folder: StudyFolder,
    listening: ListeningOptions = ON_7861,
) -> None:
    """Serve a study to its readers; whoever was interrupted goes on where they were.

    Readers log in with their code and see one image after the other: no name, no tag, and nothing that tells
    before from after. answers.csv grows by a row an answer, with its time; it is on the disk before the next
    image comes. The page listens on this machine alone unless TTR_APP_PASSWORD and --host or --public-url say
    otherwise, and sends nothing to anybody else.

    \b
    Example:
      ttr readers serve study/
      TTR_APP_PASSWORD=... ttr readers serve study/ --public-url https://example.org/study
    """
    from ttr.apps.reading.server import serve as serve_study

    serve_study(
        folder,
        address=listening.address(),
        port=listening.port,
        browser=not listening.no_browser,
        say=typer.echo,
    )


@readers.command()
def analyse(
    folder: StudyFolder,
    out: options.OutFolder,
    margin: options.Margin = 5.0,
    seed: options.DrawSeed = 42,
    incomplete: Annotated[
        bool,
        typer.Option(
            "--incomplete", help="Analyse although readers have not finished, which ends the study."
        ),
    ] = False,
    simulate: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Readers with these biases in place of the study's, which stays sealed: helped, "
            "prefers-after, left, first, slower, follows, drift, guesses, or none.",
        ),
    ] = None,
) -> None:
    """Unseal a study and say what the maps change: right answers, times, trust, preference, agreement.

    Differences hold for other readers and other images than these; each gets one verdict: higher, lower,
    equivalent within --margin, or not distinguishable. What the order does (left or right, seen first, late
    in a session) and what each reader does stands beside. From then on the study takes no more answers.

    \b
    Example:
      ttr readers analyse study/ --out analysis/
      ttr readers analyse study/ --simulate left,slower --out rehearsal/
    """
    from ttr.studies.reading.analysis import write_analysis

    named = None if simulate is None else [each for each in options.parse_list(simulate) if each != "none"]
    analysed = write_analysis(
        folder, out, margin=options.points(margin), seed=seed, incomplete=incomplete, simulated=named
    )
    for note in analysed.notes:
        typer.echo(f"{note}.")
    typer.echo(analysed.answer)
    print_path(out / "index.html")
