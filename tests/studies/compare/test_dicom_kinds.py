"""DICOM out of every kind of source: colours, palettes, films, compressed, odd spacings, all alphabets."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from io import BytesIO

import numpy as np
import pydicom
import pytest

import ttr
from tests.tools.dicom_files import COLOUR, dicom, films, honest_dicoms
from ttr.datasets.registry import ReadAhead, given_images
from ttr.run import Run
from ttr.studies.compare.settings import ComparisonSettings

pytest.importorskip("highdicom", reason="writing DICOM needs the extra [dicom]")

from ttr.hospital.parametric_map import UNSEEN
from ttr.studies.compare.dicom_out import MAPS, RUNS, DicomOut, write_dicom
from ttr.studies.compare.files import compare_files

pytestmark = pytest.mark.slow

WIDE = (np.arange(64 * 48, dtype=np.uint16).reshape(64, 48) * 21) % 65521
FILM = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.3.1"}
PLACE = {"FrameOfReferenceUID": "1.2.9", "ImagePositionPatient": ["-123.456789012345", "1e-17", "3"]}
TURNED = {
    **PLACE,
    "ImageOrientationPatient": ["0.999847695156", "0.0174524064", 0, "-0.01745240643", 1, 0],
}
JAPANESE = {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎"}
ODD = {
    "all 16 bits": dicom(WIDE, BitsStored=16, HighBit=15),
    "signed": dicom(
        WIDE.view(np.int16), BitsStored=16, HighBit=15, RescaleIntercept="-1024", RescaleSlope="1"
    ),
    "colour film": dicom(np.stack([np.stack([WIDE % 255] * 3, -1).astype(np.uint8)] * 2), **COLOUR, **FILM),
    "long spacing": dicom(WIDE, PixelSpacing=["0.1428571428571", "0.3333333333333"], SliceThickness="0"),
    "turned": dicom(WIDE, PixelSpacing=[0.2, 0.2], **TURNED),
    "no direction": dicom(WIDE, **PLACE, ImageOrientationPatient=[1, 0, 0, 1, 0, 0], PixelSpacing=[1, 1]),
    "numbers of instances": dicom(WIDE, InstanceNumber=("IS", ["1", "2"])),
    "negative number": dicom(WIDE, InstanceNumber="-3"),
    "lossy twice": dicom(WIDE, LossyImageCompression="01", LossyImageCompressionRatio=["10.123456789", "3"]),
    "two alphabets": dicom(WIDE, **JAPANESE),
    "chinese": dicom(WIDE, SpecificCharacterSet="GB18030", PatientName="王^小东"),
}
KINDS = {**{f"one, {name}": file for name, file in honest_dicoms().items()}, **ODD}
KINDS |= {f"film, {name}": file for name, file in films().items()}


@pytest.fixture(scope="module")
def phantom():
    return ttr.load("phantom", image_size=64)


@pytest.mark.parametrize("content", KINDS.values(), ids=KINDS)
def test_maps_have_the_shape_of_their_source_and_values_of_patches(content, phantom, tmp_path):
    source = pydicom.dcmread(BytesIO(content))
    source.StudyInstanceUID, source.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    if source.get("NumberOfFrames"):
        source.SOPClassUID = source.file_meta.MediaStorageSOPClassUID = FILM["SOPClassUID"]
    source.save_as(tmp_path / "a.dcm")
    how = DicomOut(keep_patient=True)
    images, sources = how.sourced(given_images([tmp_path / "a.dcm"]), phantom)
    neurons = ttr.RegisterNeurons.from_pairs(phantom.planted)
    reading = ReadAhead(replace(images, closed=images.closed[:1]), Run(progress=False))
    compared = compare_files(phantom, neurons, reading, ComparisonSettings()).images
    write_dicom(tmp_path / "out", phantom, compared, sources, how)
    for name in MAPS:
        for run in RUNS:
            data = pydicom.dcmread(tmp_path / "out" / f"0001-{name}-{run}-map.dcm")
            values = np.frombuffer(data.FloatPixelData, "<f4")
            of_patches = getattr(getattr(compared[0], run).maps, name).astype(np.float32)
            assert (data.Rows, data.Columns) == (source.Rows, source.Columns)
            assert set(values) - {np.float32(UNSEEN)} <= set(of_patches.ravel())
            assert (values >= 0).any()
            assert str(data.PatientName) == str(source.PatientName)
    for path in (tmp_path / "out").glob("*.dcm"):
        assert _errors(path) == []


def _errors(path):
    """Return what a validator calls an error, where there is one."""
    if shutil.which("dciodvfy") is None:
        return []
    found = subprocess.run(["dciodvfy", path], capture_output=True, text=True)
    errors = re.findall("^Error.*", found.stdout + found.stderr, re.MULTILINE)
    # An image without a place in a patient has none of these.
    return [line for line in errors if not re.search("<Plane(Position|Orientation)", line)]
