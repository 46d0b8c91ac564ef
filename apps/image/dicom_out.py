"""A case in DICOM, for an archive: its maps, its pictures and its numbers, beside the image that it is of.

What ``ttr compare --dicom`` writes, as one ZIP: maps of the last block, mean of the heads. The patient and
the visit stay empty, since the page reads neither.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from ttr.apps.image.case import Case
from ttr.apps.image.workbench import Workbench
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
    how = DicomOut()
    backbone, comparison = workbench.backbone(case.model), case.inspection.comparison
    placed = placement(backbone, (picture.image.height, picture.image.width))
    source = Source(lambda: picture.image, picture.origin, placed)
    stream = io.BytesIO()
    with TemporaryDirectory(prefix="ttr-dicom-") as made, zipfile.ZipFile(stream, "w") as archive:
        folder = Path(made) / "dicom"
        with workbench.alone():
            write_dicom(folder, backbone, [comparison], {comparison.image: source}, how)
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name, zipfile.ZIP_DEFLATED)
    return stream.getvalue()
