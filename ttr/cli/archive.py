"""Options of the commands that ask an archive, and what they share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.cli import given
from ttr.cli.groups import Group
from ttr.cli.options import BatchSize, Place, Workers

if TYPE_CHECKING:
    from ttr.hospital.web.archive import Archive
    from ttr.run import Run

Keep = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Folder that keeps the results, too: a folder a batch of a series.",
        callback=given.kept_folder,
    ),
]
KeepPatient = Annotated[
    bool | None,
    typer.Option(
        "--keep-patient/--no-keep-patient",
        help="Copy the patient and the visit into results; default: only where these go into an archive, "
        "which files them by it.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class TrustOptions(Group):
    """Whom an archive is believed to be."""

    ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Certificates (PEM) of the house's own, trusted in place of the machine's."
        ),
    ] = None
    plain_http: Annotated[
        bool,
        typer.Option("--plain-http", help="Allow http beyond this machine: all on the way can read."),
    ] = False

    @contextmanager
    def archive(self, url: str) -> Iterator[Archive]:
        """Yield the archive at an address, asked as the environment says.

        Raises:
            TTRError: as ``Access.of`` does.
        """
        import os

        from ttr.hospital.web.access import Access
        from ttr.hospital.web.archive import Archive
        from ttr.hospital.web.exchange import Exchange

        access = Access.of(url, os.environ, ca=self.ca, plain_http=self.plain_http)
        with Exchange(access) as exchange:
            yield Archive(exchange)


@dataclass(frozen=True, kw_only=True)
class BatchOptions(Group):
    """How images are read and run; bad ones are always left out and named."""

    workers: Workers = 2
    batch_size: BatchSize = 8

    def run(self, place: Place, *, progress: bool) -> Run:
        """Return how a study is to run.

        Raises:
            OptionError: a value is outside its range.
        """
        from ttr.run import Run

        return Run(
            batch_size=self.batch_size,
            workers=self.workers,
            on_error="skip",
            progress=progress,
            device=place.device,
            dtype=place.dtype,
        )
