"""``ttr compare``: images before and after, as a page and as numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ttr.cli import options
from ttr.cli.compared import MeasureOptions
from ttr.cli.groups import grouped
from ttr.cli.loading import load_with_neurons
from ttr.cli.tables import show_comparison, show_skipped

if TYPE_CHECKING:
    from ttr.studies.compare.dicom_out import DicomOut

IN_EIGHTS, MEASURE = options.ReadingOptions(batch_size=8), MeasureOptions()


@grouped
def compare(
    *,
    images: options.Images,
    frame: options.Frame = None,
    model: options.ModelOptions,
    out: options.OutFolder,
    neurons: options.NeuronsFile = None,
    measure: MeasureOptions = MEASURE,
    dicom: Annotated[
        bool,
        typer.Option(
            "--dicom",
            help="Also write maps and numbers in DICOM, into the study of their source (extra [dicom]).",
        ),
    ] = False,
    keep_patient: Annotated[
        bool,
        typer.Option(
            "--keep-patient", help="With --dicom: copy the patient and the visit; otherwise they stay empty."
        ),
    ] = False,
    reading: options.ReadingOptions = IN_EIGHTS,
) -> None:
    """Compare images through the bare backbone and through the one with its registers moved.

    Writes a folder with index.html (self-contained, opens offline), compare.json (one entry an image) and
    manifest.json. Outliers count above the same norm before and after. With --dicom, dicom/ holds each map on
    its source's grid (Parametric Map), as a picture (Secondary Capture), and the numbers (Structured Report).

    \b
    Example:
      ttr compare --backbone timm:vit_large_patch14_dinov2 --weights dinov2_l.safetensors \\
          --image-size 224 --neurons neurons.json --out comparison/ chest-1.png chest-2.png
    """
    from ttr.datasets.registry import given_images

    chosen = given_images(images, frame=frame, anonymous=reading.anonymous)
    settings = measure.settings()
    run = reading.run(model)
    dicom_out = _dicom_out(dicom, keep_patient, anonymous=reading.anonymous)
    from ttr.studies.compare.page import in_short
    from ttr.studies.compare.write import write_comparison

    found, backbone = load_with_neurons(neurons, model)
    compared = write_comparison(backbone, found, chosen, out, settings, run, dicom=dicom_out)
    show_skipped(compared.skipped)
    show_comparison(compared.images, in_short(compared.images, len(found)), out / "index.html")
    if dicom_out is not None:
        from ttr.studies.compare.dicom_out import FOLDER

        typer.echo(f"in DICOM: {out / FOLDER}")


def _dicom_out(dicom: bool, keep_patient: bool, *, anonymous: bool) -> DicomOut | None:
    """Return how results are written in DICOM, None where they are not.

    Raises:
        OptionError: options that contradict each other, or a package that is missing.
    """
    from ttr.errors import OptionError

    if not dicom:
        if keep_patient:
            raise OptionError(
                "--keep-patient is for --dicom, which was not given; give both, or leave it out"
            )
        return None
    if anonymous:
        raise OptionError(
            "--dicom files results in the patient's study, by which the patient can be found; leave --dicom "
            "or --anonymous out"
        )
    from ttr.studies.compare.dicom_out import DicomOut

    return DicomOut(keep_patient)
