"""``ttr``: the commands, and what happens when one of them refuses.

Commands live in a file each and import torch only when they run, so that ``--help`` answers at once.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import traceback
import warnings
from functools import cache
from typing import Annotated, Any

import typer

from ttr.cli.ablate import ablate
from ttr.cli.app import app as page
from ttr.cli.backbones import backbones
from ttr.cli.bench import bench
from ttr.cli.commands import Commands
from ttr.cli.compare import compare
from ttr.cli.data import data
from ttr.cli.demo import demo
from ttr.cli.detect import detect
from ttr.cli.doctor import doctor
from ttr.cli.embed import embed
from ttr.cli.export import export
from ttr.cli.integrate import integrate
from ttr.cli.localize import localize
from ttr.cli.neurons import neurons
from ttr.cli.pacs import pacs
from ttr.cli.plant import plant
from ttr.cli.readers import readers
from ttr.cli.report import report
from ttr.cli.reproduce.commands import reproduce
from ttr.cli.scan import scan
from ttr.cli.tune import tune
from ttr.cli.watch import watch
from ttr.cli.zero_shot import zero_shot
from ttr.errors import ImageWarning, TTRError
from ttr.version import __version__

#: The parser's own, wherever this version of typer keeps it.
UsageError: Any = typer.BadParameter.__base__
_PRINTED = warnings.showwarning

HELP = """Test-time registers for medical imaging.

Find the neurons that make a Vision Transformer park global information in a few image patches, move their
activity onto tokens appended at test time, and look at what changed.

\b
  ttr demo                                   everything at once, offline
  ttr app                                    the page: your images before and after, on this machine
  ttr scan --backbone A,B --images DIR --out DIR           which models have artifacts, and which remedy?
  ttr detect --backbone NAME --images DIR --out neurons.json
  ttr tune --backbone NAME --images DIR --out DIR
  ttr compare --backbone NAME --neurons neurons.json --out DIR IMAGE...
  ttr pacs --url URL --study UID --backbone NAME           an archive's images, results beside them
  ttr watch --folder DIR --backbone NAME --out DIR         the same for what arrives, as a service
  ttr bench --dataset NAME --root DIR --backbone NAME --out DIR
  ttr ablate --backbone NAME --dataset NAME --out DIR      what do registers and CLS do?
  ttr integrate --backbone NAME --dataset NAME --out DIR   is the map faithful?
  ttr localize --backbone NAME --dataset NAME --out DIR    is the map right? against masks and boxes
  ttr readers prepare --backbone NAME --out DIR IMAGE...   what does a map do to people's answers?
  ttr readers serve DIR                      readers see one image after the other, blinded
  ttr readers analyse DIR --out DIR
  ttr report DIR [DIR...]                    an ablation as one page, or several compared
  ttr reproduce medical --roots NAME=DIR,... published numbers beside yours
  ttr reproduce decoupling --dataset NAME --out DIR
  ttr reproduce zero-ablation --dataset NAME --out DIR
  ttr reproduce attention-maps --roots NAME=TABLE,...
  ttr embed --backbone NAME --images DIR --out DIR         millions of images to Parquet shards
  ttr export --backbone NAME --neurons neurons.json --out model.onnx
  ttr plant --backbone NAME --out FILE       artifacts in real weights, whose own maps are the truth
  ttr zero-shot --backbone NAME --classes A,B --neurons neurons.json IMAGE...
  ttr neurons compare A.json B.json          do two sets of images name the same neurons?
  ttr backbones                              what has a short name, and what is cached
  ttr data info [NAME]                       the labelled sets, and what to know of them
  ttr data check --dataset NAME --root DIR   would it mislead a benchmark?
  ttr doctor                                 is this installation sound? a self-test with known answers

\b
Exit status: 0 done; 2 refused (one line says what was given, what was needed, and what to do next);
1 a check found what it looks for, or an error that should be reported. --debug, anywhere on the line, shows
the traceback.
"""

app = Commands(
    name="ttr",
    help=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
app.command()(demo)
app.command(name="app")(page)
app.command()(detect)
app.command()(scan)
app.command()(tune)
app.command()(bench)
app.command()(compare)
app.command()(pacs)
app.command()(watch)
app.command()(embed)
app.command()(ablate)
app.command()(integrate)
app.command()(localize)
app.command()(report)
app.command()(export)
app.command()(plant)
app.command()(zero_shot)
app.command()(backbones)
app.command()(doctor)
app.add_typer(data, name="data")
app.add_typer(neurons, name="neurons")
app.add_typer(readers, name="readers")
app.add_typer(reproduce, name="reproduce")


def _version(show: bool) -> None:
    if show:
        typer.echo(f"ttr {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options that come before the command."""


def main() -> None:
    """Run the command line; exit with 0, 1 or 2."""
    # Ended from outside, a command still clears away what it had half written.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # Of half a million objects of the libraries none needs to be looked for, for seconds, ahead of the end.
    atexit.register(gc.freeze)
    warnings.showwarning = _warn
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    try:
        given = [argument for argument in arguments if argument != "--debug"]
        sys.exit(_parser()(args=given, standalone_mode=False) or 0)
    except UsageError as error:
        if not arguments or type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            sys.exit(2)
        where = error.ctx.command_path if error.ctx else "ttr"
        _fail(f"{error.format_message().rstrip('.')}; see: {where} --help", 2)
    except typer.Abort:
        sys.exit(130)
    except TTRError as error:
        if debug:
            traceback.print_exc()
        _fail(str(error), 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        _fail(f"{type(error).__name__}: {error} (this should not happen; --debug shows where)", 1)


@cache
def _parser() -> Any:
    """Return all commands with their options, which typer would lay out anew for every call."""
    return typer.main.get_command(app)


def _warn(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Print what must be said of an image on a line of its own; other warnings as they always are."""
    if issubclass(category, ImageWarning):
        typer.echo(f"ttr: {' '.join(str(message).split())}", err=True)
    else:
        _PRINTED(message, category, *where, **more)


def _fail(message: str, status: int) -> None:
    typer.echo(f"ttr: {' '.join(message.split())}", err=True)
    sys.exit(status)
