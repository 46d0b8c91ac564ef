"""``ttr doctor``: is this installation sound, and does the instrument measure what it should?"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from ttr.cli import options


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Examine this installation: libraries, devices, the hub's cache, and a self-test on the phantom.

    The self-test has known answers: detection must find the planted neurons, and one register must take the
    outliers' norm and attention, each within the range printed beside it. Exit status 1 when something is
    off, with what to do; notes are worth knowing but no fault. Needs no network.

    \b
    Example:
      ttr doctor
    """
    from ttr.cli.tables import show_checks
    from ttr.progress import progress_bar
    from ttr.studies.doctor import examine
    from ttr.version import __version__

    checks = []
    with progress_bar("examining", None, show=not quiet and not as_json) as advance:
        for check in examine():
            checks.append(check)
            advance(1)
    sound = all(check.state != "off" for check in checks)
    if as_json:
        entries = [asdict(check) for check in checks]
        result = {"schema": "ttr.doctor/1", "ttr": __version__, "ok": sound, "checks": entries}
        typer.echo(json.dumps(result, indent=2))
    else:
        show_checks(checks)
    if not sound:
        raise typer.Exit(1)
