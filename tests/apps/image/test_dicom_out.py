"""What the page hands over for an archive: the numbers it shows, on the image's own pixels, of its study."""

from __future__ import annotations

import io
import re
import time
import zipfile
from dataclasses import replace

import httpx
import numpy as np
import pydicom
import pytest

from tests.tools.arrived import EACH, SERIES, STUDY, radiograph
from tests.tools.orthanc import LOGIN, ORTHANC, PLUGIN, WITHOUT, orthanc
from ttr.apps.image.dicom_out import dicom_of
from ttr.apps.image.intake import sample, take_in_bytes
from ttr.apps.image.workbench import Workbench
from ttr.errors import ImageError
from ttr.hospital.web.messages import message

pytest.importorskip("highdicom", reason="writing DICOM needs the extra [dicom]")


@pytest.fixture(scope="module")
def workbench(phantom):
    return Workbench({"phantom": lambda: phantom})


def filed(workbench, picture):
    """Return the DICOM files of a picture by name, read."""
    case = workbench.case(picture, workbench.choose("phantom"))
    archive = zipfile.ZipFile(io.BytesIO(dicom_of(workbench, case)))
    names = [name for name in archive.namelist() if name.endswith(".dcm")]
    return case, {name: pydicom.dcmread(io.BytesIO(archive.read(name))) for name in names}


def test_a_radiographs_maps_are_filed_in_its_study_without_its_patient(workbench):
    case, found = filed(workbench, take_in_bytes(radiograph(1)))
    assert len(found) == EACH
    for data in found.values():
        assert data.StudyInstanceUID == STUDY
        assert data.SeriesInstanceUID != SERIES
        assert not data.PatientName
        assert not data.PatientID
    frame, size = case.inspection.frame, case.picture.image.size
    left, top, right, bottom = frame.box(size)
    for when, run in zip(("before", "after"), case.inspection.runs, strict=True):
        data = found[f"0001-attention-{when}-map.dcm"]
        pixels = np.frombuffer(data.FloatPixelData, "<f4").reshape(data.Rows, data.Columns)
        shown = run.attention_map(case.inspection.layers - 1)
        rows, columns = shown.shape
        for row, column in ((0, 0), (3, 7), (rows - 1, columns - 1)):
            x = int(left + (column + 0.5) / columns * (right - left))
            y = int(top + (row + 0.5) / rows * (bottom - top))
            assert pixels[y, x] == pytest.approx(shown[row, column], abs=1e-6)


def test_two_choices_are_filed_in_a_folder_each(workbench):
    """And none replaces the other in an archive: they are of different neurons, so their names differ."""
    chosen = workbench.choose("phantom")
    beside = replace(chosen, neurons=chosen.neurons.top(2))
    case = workbench.case(take_in_bytes(radiograph(1)), replace(chosen, beside=beside))
    archive = zipfile.ZipFile(io.BytesIO(dicom_of(workbench, case)))
    names = [name for name in archive.namelist() if name.endswith(".dcm")]
    folders = [[name for name in names if name.startswith(f"choice-{number}/")] for number in (1, 2)]
    assert [len(each) for each in folders] == [EACH, EACH]
    assert len(names) == 2 * EACH
    uids = {pydicom.dcmread(io.BytesIO(archive.read(name))).SOPInstanceUID for name in names}
    assert len(uids) == 2 * EACH
    after = [name for name in names if name.endswith("attention-after-map.dcm")]
    first, second = (pydicom.dcmread(io.BytesIO(archive.read(name))).FloatPixelData for name in after)
    assert first != second


def test_a_picture_and_a_file_that_names_no_study_have_no_place(workbench):
    for picture, says in (
        (sample("chest"), "this is a PNG"),
        (take_in_bytes(radiograph(1, StudyInstanceUID=None)), "does not name them all"),
    ):
        assert picture.origin is None
        case = workbench.case(picture, workbench.choose("phantom"))
        with pytest.raises(ImageError, match=says):
            dicom_of(workbench, case)


@pytest.mark.slow  # the same instances go there and back in tests/cli/test_pacs.py
def test_there_and_back_through_a_real_archive(workbench, tmp_path):
    """An image comes out of the archive, is looked at, and what was exported goes in beside it, unchanged.

    Of nobody: Orthanc files by study and patient, and the page's export names none.
    """
    if ORTHANC is None or PLUGIN is None:
        pytest.skip(WITHOUT)
    accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}

    def read_all(client, count):
        """Return all of the study; an archive may take its time to show what it took."""
        for _ in range(200):
            answer = client.get(f"/studies/{STUDY}", headers=accept)
            boundary = re.search("boundary=([^;]+)", answer.headers.get("Content-Type", ""))
            parts = answer.content.split(b"--" + boundary[1].encode())[1:-1] if boundary else []
            if len(parts) == count:
                return [part.split(b"\r\n\r\n", 1)[1][:-2] for part in parts]
            time.sleep(0.1)
        raise AssertionError(answer.text[:300])

    with (
        orthanc(tmp_path / "orthanc") as root,
        httpx.Client(base_url=root, auth=LOGIN, trust_env=False) as client,
    ):
        body, head = message(radiograph(1, PatientName="", PatientID=""))
        assert client.post(f"/studies/{STUDY}", content=b"".join(body), headers=head).status_code == 200
        (came,) = read_all(client, 1)
        case = workbench.case(take_in_bytes(came), workbench.choose("phantom"))
        archive = zipfile.ZipFile(io.BytesIO(dicom_of(workbench, case)))
        made = {name: archive.read(name) for name in archive.namelist() if name.endswith(".dcm")}
        for content in made.values():
            body, head = message(content)
            answer = client.post(f"/studies/{STUDY}", content=b"".join(body), headers=head)
            assert answer.status_code == 200
        back = {
            data.SOPInstanceUID: data
            for each in read_all(client, 1 + EACH)
            if (data := pydicom.dcmread(io.BytesIO(each)))
        }
    assert len(back) == 1 + EACH
    for content in made.values():
        sent = pydicom.dcmread(io.BytesIO(content))
        got = back[sent.SOPInstanceUID]
        if "FloatPixelData" in sent:
            assert got.FloatPixelData == sent.FloatPixelData
