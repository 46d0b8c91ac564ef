"""A case in DICOM, for an archive: its maps, its pictures and its numbers, beside the image that it is of.

What ``ttr compare --dicom`` writes, as one ZIP: maps of the last block, mean of the heads; of two choices a
folder each. The patient and the visit stay empty, since the page reads neither.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from ttr.apps.image.case import Case
from ttr.apps.image.workbench import Workbench
from ttr.datasets.dicom.origin import Origin
from ttr.errors import ImageError
from ttr.evaluate.placement import placement
from ttr.studies.compare.dicom_out import DicomOut, Source, write_dicom


def dicom_of(workbench: Workbench, case: Case) -> bytes:
    """Return a ZIP of the DICOM files of a case.

    Raises:
        ImageError: it is no DICOM image, or one that names no study, series and instance.
        OptionError: the package that writes DICOM is not installed.
    """
    picture = case.picture
    if picture.origin is None:
        what = f"this is a {picture.kind}" if picture.kind != "DICOM" else "this one does not name them all"
        raise ImageError(
            f"only a DICOM image of a study, series and instance has a place in an archive; {what}"
        )
    stream = io.BytesIO()
    choices = [case] if case.beside is None else [case, case.beside]
    with TemporaryDirectory(prefix="ttr-dicom-") as made, zipfile.ZipFile(stream, "w") as archive:
        folders = [Path(made) / f"choice-{number}" for number, _ in enumerate(choices, start=1)]
        with workbench.alone():
            for each, folder in zip(choices, folders, strict=True):
                _write(workbench, each, picture.origin, folder)
        root = folders[0] if len(folders) == 1 else Path(made)
        for file in sorted(each for each in root.rglob("*") if each.is_file()):
            archive.write(file, file.relative_to(root), zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def _write(workbench: Workbench, case: Case, origin: Origin, folder: Path) -> None:
    image = case.picture.image
    backbone, comparison = workbench.backbone(case.model), case.inspection.comparison
    source = Source(lambda: image, origin, placement(backbone, (image.height, image.width)))
    write_dicom(folder, backbone, [comparison], {comparison.image: source}, DicomOut())
