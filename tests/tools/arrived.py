"""Radiographs as they arrive, a tiny model to look at them, and what it made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ttr
from tests.tools.dicom_files import PATIENT, dicom
from ttr.datasets.registry import phantom_images
from ttr.hospital import secondary_capture
from ttr.run import Run
from ttr.studies.compare import dicom_out
from ttr.studies.compare.settings import ComparisonSettings
from ttr.studies.pacs.work import Work
from ttr.wording import MANUFACTURER

SIDE, STUDY, SERIES = 64, "1.2.77", "1.2.77.1"
#: Long enough to stand nowhere by chance.
PERSON = {"PatientName": PATIENT["PatientName"], "PatientID": "PATIENT-4711-OF-WARD-3"}
SECRETS = (PERSON["PatientName"], PERSON["PatientID"], "Muster", "Erika")
#: Instances that an image becomes, and of one map alone.
EACH, FEW = 9, 5


def radiograph(number: int, series: str = SERIES, study: str = STUDY, **tags: Any) -> bytes:
    """Return the radiograph of that number, from 1 on; its UID is the series' and the number."""
    image = next(phantom_images(1, seed=number)).image.convert("L").resize((SIDE, SIDE))
    said: dict[str, Any] = {
        **PERSON,
        "StudyInstanceUID": study,
        "SeriesInstanceUID": series,
        "SOPInstanceUID": f"{series}.{number}",
        "InstanceNumber": number,
        "Modality": "DX",
        "StudyDate": "20260131",
    }
    return dicom(np.asarray(image).astype(np.uint16) * 16, **{**said, **tags})


def tiny_work() -> Work:
    """Return how a tiny phantom looks at them."""
    phantom = ttr.load("phantom", image_size=SIDE)
    neurons = ttr.RegisterNeurons.from_pairs(phantom.planted)
    run = Run(batch_size=4, on_error="skip")
    return Work(phantom, neurons, ComparisonSettings(), run, keep_patient=True)


def make_few(patch: pytest.MonkeyPatch) -> None:
    """Let an image become :data:`FEW` instances with small pictures, for who counts them."""
    patch.setattr(dicom_out, "MAPS", {"attention": dicom_out.MAPS["attention"]})
    make_small(patch)


def make_small(patch: pytest.MonkeyPatch) -> None:
    """Let pictures be as small as their sources, though nobody can read what is burnt in then."""
    patch.setattr(secondary_capture, "SMALLEST", SIDE)


def results(archive: Any) -> list[Any]:
    """Return what ttr made of what an archive holds."""
    return [data for data in archive.read() if data.get("Manufacturer") == MANUFACTURER]
