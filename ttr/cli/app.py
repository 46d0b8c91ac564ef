"""``ttr app``: the clinician's page, on this machine."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.cli import given, options
from ttr.cli.groups import grouped
from ttr.cli.listening import ListeningOptions
from ttr.cli.loading import load_silently, nothing_collected

if TYPE_CHECKING:
    from ttr.apps.image.workbench import Workbench

ON_7860 = ListeningOptions()
OFFERED = options.ModelOptions(backbone="")
#: Pixels of a side at which real weights are shown where no model was named.
SIDE = 518


@grouped
def app(
    *,
    listening: ListeningOptions = ON_7860,
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder with results of ttr ablate, bench and integrate, for the tabs of results.",
            callback=given.results,
        ),
    ] = None,
    model: options.ModelOptions = OFFERED,
    neurons: options.NeuronsFile = None,
    head: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="A linear head of that backbone (.safetensors, .pth), or a ttr bench folder.",
            callback=given.head,
        ),
    ] = None,
    num_registers: options.NumRegisters = 1,
) -> None:
    """Open the page on which images are compared before and after: nothing leaves this machine.

    It listens on this machine alone, sends nothing anywhere, and forgets uploads within the hour and at exit.
    For other machines set a password in TTR_APP_PASSWORD (the user is ttr). A reverse proxy with TLS needs
    --public-url. /healthz tells whether it is ready.

    \b
    Example:
      ttr app --backbone phantom
      ttr app --results results/
      TTR_APP_PASSWORD=... ttr app --public-url https://example.org/ttr
    """
    import os

    from ttr.apps.server import serve
    from ttr.apps.service.password import PASSWORD, check_password
    from ttr.studies.results import Results

    address = listening.address()
    check_password(address, os.environ.get(PASSWORD))
    shown = Results(results)
    with nothing_collected():
        bench = _workbench(model, neurons, head, num_registers)
    serve(
        bench,
        shown,
        address=address,
        port=listening.port,
        browser=not listening.no_browser,
        say=typer.echo,
    )


def _workbench(
    model: options.ModelOptions, neurons: Path | None, head: Path | None, num_registers: int
) -> Workbench:
    from ttr.apps.image.answers import read_bench_head, read_head
    from ttr.apps.image.workbench import Workbench
    from ttr.backbones.names import check_name
    from ttr.errors import OptionError
    from ttr.registers.neurons import RegisterNeurons

    if model.backbone:
        check_name(model.backbone)
    found = None if neurons is None else RegisterNeurons.load(neurons)
    reader = None if head is None else read_bench_head(head) if head.is_dir() else read_head(head)
    if head is not None and reader is None:
        raise OptionError(f"--head {head} holds no head of the bare model; run ttr bench with the arm plain")
    heads = [] if reader is None else [reader]
    shown = [model] if model.backbone else _offered(model)
    return Workbench(
        {each.backbone: partial(load_silently, each) for each in shown}, found, heads, num_registers
    )


def _offered(model: options.ModelOptions) -> list[options.ModelOptions]:
    """Return what is shown where no model was named: real weights where they are installed, else a phantom.

    Raises:
        OptionError: weights were given, and no model that they are of.
    """
    from dataclasses import replace

    from ttr.backbones.phantoms.hybrid import HYBRIDS
    from ttr.errors import OptionError
    from ttr.studies.demo.demonstration import real_weights_at_hand

    if model.weights is not None or model.pretrained:
        option = "--pretrained" if model.weights is None else f"--weights {model.weights}"
        raise OptionError(f"got {option} and no --backbone; name the model that the weights are of")
    if not real_weights_at_hand():
        return [replace(model, backbone="phantom")]
    model = replace(model, image_size=model.image_size or SIDE)
    hybrids = [replace(model, backbone=name) for name in HYBRIDS]
    bases = {hybrid.base for hybrid in HYBRIDS.values()}
    return [*hybrids, *(replace(model, backbone=name, pretrained=True) for name in sorted(bases))]
