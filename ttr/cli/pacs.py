"""``ttr pacs``: images of an archive before and after, and the results stored beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ttr.cli import archive, options
from ttr.cli.compared import MeasureOptions
from ttr.cli.groups import grouped
from ttr.cli.loading import load_with_neurons

if TYPE_CHECKING:
    from ttr.studies.pacs.run import Found, Summary

BATCHES, TRUST, MEASURE = archive.BatchOptions(), archive.TrustOptions(), MeasureOptions()


@grouped
def pacs(
    *,
    url: Annotated[
        str,
        typer.Option(metavar="URL", help="The archive's DICOMweb root, such as https://pacs/dicom-web."),
    ],
    study: Annotated[str | None, typer.Option(metavar="UID", help="All series of this study.")] = None,
    series: Annotated[
        str | None, typer.Option(metavar="UID", help="This series; with --study, it is found faster.")
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(
            metavar="QUERY", help='Series with these attributes, such as "Modality=DX&StudyDate=20260131".'
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="At most so many series.")] = None,
    trust: archive.TrustOptions = TRUST,
    model: options.ModelOptions,
    neurons: options.NeuronsFile = None,
    measure: MeasureOptions = MEASURE,
    store: Annotated[
        bool, typer.Option("--store/--no-store", help="Store results in the study of their source.")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is found; fetch, compare and store nothing.")
    ] = False,
    keep_patient: archive.KeepPatient = None,
    out: archive.Keep = None,
    reading: archive.BatchOptions = BATCHES,
    quiet: options.Quiet = False,
) -> None:
    """Compare images of an archive (DICOMweb), and store maps and numbers beside them.

    Images are fetched into a private folder that goes again. Results are those of ttr compare --dicom: new
    series in the same study. The same command again does what is missing, and stores nothing twice. Who asks
    stands in the environment alone: TTR_PACS_USER and TTR_PACS_PASSWORD, or TTR_PACS_TOKEN.

    \b
    Example:
      ttr pacs --url https://pacs.example.org/dicom-web --study 1.2.840.1 \\
          --backbone timm:vit_large_patch14_dinov2 --weights dinov2_l.safetensors --neurons neurons.json
      ttr pacs --url https://pacs.example.org/dicom-web --query "Modality=DX&StudyDate=20260131" --dry-run \\
          --backbone phantom
    """
    from ttr.errors import OptionError
    from ttr.hospital.instance import need

    asked = _asked(study, series, query)
    if not (store or dry_run or out is not None):
        raise OptionError("--no-store without --out leaves no results; name a folder with --out")
    settings = measure.settings()
    run = reading.run(model, progress=not quiet)
    need("ttr pacs", "pacs", "highdicom", "httpx", "python_multipart")
    with trust.archive(url) as there:
        from ttr.studies.pacs.run import find, run_all
        from ttr.studies.pacs.work import Work

        found = find(there, asked, limit, progress=run.progress)
        _say_found(found)
        if dry_run:
            return
        neurons_found, backbone = load_with_neurons(neurons, model)
        run.check(backbone)
        keeps = store if keep_patient is None else keep_patient
        work = Work(backbone, neurons_found, settings, run, keeps)
        summary = run_all(there, work, found, store=store, keep=out)
    typer.echo(summary.sentence(url if store else "", out))
    _refuse_failed(summary)


def _asked(study: str | None, series: str | None, query: str | None) -> dict[str, str]:
    """Return the attributes that are asked for.

    Raises:
        OptionError: nothing is, or what is no UID or no query.
    """
    from datetime import date

    from ttr.datasets.dicom.identity import is_uid
    from ttr.errors import OptionError
    from ttr.hospital.web.messages import of_day, parse_query

    asked = {} if query is None else of_day(parse_query(query), date.today())
    for option, key, uid in (("study", "StudyInstanceUID", study), ("series", "SeriesInstanceUID", series)):
        if uid is None:
            continue
        if not is_uid(uid):
            raise OptionError(f"--{option} {uid[:80]!r} is no UID; needed digits and dots, 64 at most")
        if key in asked:
            raise OptionError(f"--query and --{option} both name a {key}; give one of them")
        asked[key] = uid
    if not asked:
        raise OptionError("nothing is asked for; give --study UID, --series UID or --query")
    return asked


def _say_found(found: Found) -> None:
    from ttr.wording import counted

    without = f" ({found.without:,} more hold none, or are beyond --limit)" if found.without else ""
    typer.echo(f"found {counted(found.images, 'image')} in {len(found.series):,} series{without}")
    if found.nameless:
        typer.echo(
            f"left out: {found.nameless:,} of the archive's series or instances, which have no valid UID",
            err=True,
        )


def _refuse_failed(summary: Summary) -> None:
    """Name what has no results.

    Raises:
        ArchiveError: there is some.
    """
    from ttr.errors import ArchiveError
    from ttr.wording import counted, not_done

    for uid, why in summary.failed.items():
        typer.echo(not_done(uid, why), err=True)
    if summary.failed:
        failed = counted(len(summary.failed), "instance")
        raise ArchiveError(f"{failed} could not be done (above); the same command tries these again")
