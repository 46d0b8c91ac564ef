"""``ttr watch``: a service that compares what arrives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.cli import archive, options
from ttr.cli.compared import MeasureOptions
from ttr.cli.groups import Group, grouped
from ttr.cli.loading import load_with_neurons
from ttr.wording import counted

if TYPE_CHECKING:
    from ttr.studies.watch.ledger import Ledger
    from ttr.studies.watch.monitor import Monitor
    from ttr.studies.watch.sources import Source

BATCHES, TRUST, MEASURE = archive.BatchOptions(), archive.TrustOptions(), MeasureOptions()


@dataclass(frozen=True, kw_only=True)
class ServiceOptions(Group):
    """How the service looks, remembers and is looked after."""

    ledger: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="The record of what was done; made if it is not there. One service at a time has it.",
        ),
    ]
    interval: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, max=86400, help="Seconds between two looks.")
    ] = 30.0
    retry: Annotated[bool, typer.Option("--retry", help="Try again what failed in earlier runs.")] = False
    health_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="PORT", help="Serve /healthz and /metrics; 0: a free one."),
    ] = None
    health_host: Annotated[
        str, typer.Option(metavar="HOST", help="Where /healthz and /metrics are served.")
    ] = "127.0.0.1"

    def begun(self, stack: ExitStack) -> tuple[Ledger, Monitor]:
        """Open the ledger and serve health as long as ``stack`` is open; return both.

        Raises:
            OutputError: the ledger cannot be used.
            OptionError: nobody can listen there.
        """
        from ttr.studies.watch.ledger import Ledger
        from ttr.studies.watch.monitor import Monitor

        ledger, monitor = stack.enter_context(Ledger(self.ledger)), Monitor()
        if self.health_port is not None:
            port = stack.enter_context(monitor.served(self.health_host, self.health_port))
            typer.echo(f"health: http://{self.health_host}:{port}/healthz and /metrics")
        if self.retry:
            typer.echo(f"{counted(ledger.forget_failed(), 'failure')} of earlier runs tried again")
        return ledger, monitor


@grouped
def watch(
    *,
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Watch the DICOM files below this folder.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="An archive's DICOMweb root: with --query it is watched; results go into it."
        ),
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(
            metavar="QUERY", help='Series with these attributes, such as "Modality=DX&StudyDate=today".'
        ),
    ] = None,
    trust: archive.TrustOptions = TRUST,
    model: options.ModelOptions,
    neurons: options.NeuronsFile = None,
    measure: MeasureOptions = MEASURE,
    service: ServiceOptions,
    store: Annotated[
        bool, typer.Option("--store/--no-store", help="Store results in the archive of --url.")
    ] = True,
    keep_patient: archive.KeepPatient = None,
    out: archive.Keep = None,
    reading: archive.BatchOptions = BATCHES,
) -> None:
    """Compare each new image of a folder or of an archive once, as a service.

    A series is taken once nothing of it has changed between two looks. The ledger survives a kill: nothing is
    lost, nothing is done twice. What cannot be read is recorded, and the service goes on. SIGTERM ends it.
    Log, ledger and metrics name images by UID alone. Who asks an archive stands in the environment alone:
    TTR_PACS_USER and TTR_PACS_PASSWORD, or TTR_PACS_TOKEN.

    \b
    Example:
      ttr watch --folder incoming/ --out results/ --ledger ledger.db --backbone phantom --neurons neurons.json
      ttr watch --url https://pacs.example.org/dicom-web --query "Modality=DX&StudyDate=today" \\
          --ledger ledger.db --health-port 9090 --backbone timm:vit_large_patch14_dinov2 \\
          --weights dinov2_l.safetensors --neurons neurons.json
    """
    from threading import Event

    from ttr.hospital.instance import need

    _check(folder, url if store else None, url, query, out)
    settings, run = measure.settings(), reading.run(model, progress=False)
    need("ttr watch", "pacs", "highdicom", "httpx", "python_multipart", "prometheus_client")
    asked = _query(query)
    with ExitStack() as stack, _ended():
        from ttr.studies.pacs.work import Work
        from ttr.studies.watch.service import Service
        from ttr.studies.watch.sources import ArchiveSource, FolderSource

        source: Source | None = None if folder is None else FolderSource(folder)
        ledger, monitor = service.begun(stack)
        there = None if url is None else stack.enter_context(trust.archive(url))
        found, backbone = load_with_neurons(neurons, model)
        run.check(backbone)
        monitor.loaded()
        storing = there if store else None
        keeps = storing is not None if keep_patient is None else keep_patient
        work = Work(backbone, found, settings, run, keeps)
        if source is None:
            assert there is not None, "checked above"
            source = ArchiveSource(there, asked, work.series_of)
        typer.echo(f"watching, every {service.interval:g} s")
        stack.callback(lambda: _say_states(ledger.states()))
        Service(source, ledger, work, storing, out, service.interval, monitor, typer.echo).run(Event())


def _query(text: str | None) -> dict[str, str]:
    from ttr.hospital.web.messages import parse_query

    return {} if text is None else parse_query(text)


def _check(
    folder: Path | None, target: str | None, url: str | None, query: str | None, out: Path | None
) -> None:
    """Raise OptionError unless there is one thing to watch, and results go somewhere."""
    from ttr.errors import OptionError

    if (folder is None) == (query is None):
        raise OptionError("give --folder, or --url with --query: one thing is watched")
    if query is not None and url is None:
        raise OptionError("--query is for an archive; name it with --url")
    if target is None and out is None:
        raise OptionError("results would go nowhere; name a folder with --out, or an archive with --url")


@contextmanager
def _ended() -> Iterator[None]:
    """Let SIGTERM end the service at once with status 0 meanwhile: the ledger knows what is left to do."""
    import signal
    import sys

    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say_states(states: dict[str, int]) -> None:
    said = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items())) or "nothing yet"
    typer.echo(f"ended; in the ledger: {said}")
