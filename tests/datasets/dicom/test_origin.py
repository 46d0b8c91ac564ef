"""Where a DICOM image belongs, and that nothing of the patient is read unless that is asked."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation

from tests.tools.dicom_files import PATIENT, RAMP, dicom, palette, said_of_frames, write
from ttr.datasets.dicom.origin import Origin, origin_of
from ttr.errors import ImageError

IDS = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.1"}
PLACE = {
    "FrameOfReferenceUID": "1.2.3.9",
    "PixelSpacing": [0.5, 0.25],
    "SliceThickness": 2,
    "ImagePositionPatient": [-10, -20, 30.5],
    "ImageOrientationPatient": [0, 1, 0, 0, 0, -1],
}
PLAIN = Origin("1.2.3", "1.2.3.1", "1.2.3.4", DigitalXRayImageStorageForPresentation, (8, 8))


def test_an_image_says_its_study_series_instance_and_place(tmp_path):
    said = {"LossyImageCompression": "01", "LossyImageCompressionRatio": [2, 7.5], "BurnedInAnnotation": "NO"}
    path = write(tmp_path / "a.dcm", **IDS, **PLACE, **said, SOPClassUID=CTImageStorage)
    assert origin_of(path) == Origin(
        *("1.2.3", "1.2.3.1", "1.2.3.4", CTImageStorage, (8, 8)),
        frame_of_reference="1.2.3.9",
        spacing=(0.5, 0.25),
        thickness=2,
        position=(-10, -20, 30.5),
        orientation=(0, 1, 0, 0, 0, -1),
        burned_in="NO",
        lossy={"LossyImageCompression": "01", "LossyImageCompressionRatio": 7.5},
    )


@pytest.mark.parametrize(
    ("tags", "place"),
    [
        ({}, {}),
        ({"PixelSpacing": [0, 1]}, {}),
        ({"PixelSpacing": [0.5, 0.5]}, {"spacing": (0.5, 0.5)}),
        ({"FrameOfReferenceUID": ("UI", "1..2")}, {}),
        ({**PLACE, "ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "unplaced"),
        ({**PLACE, "ImagePositionPatient": [1, 2]}, "unplaced"),
    ],
)
def test_what_is_no_place_in_a_patient_is_none(tags, place, tmp_path):
    if place == "unplaced":
        place = {"frame_of_reference": "1.2.3.9", "spacing": (0.5, 0.25), "thickness": 2}
    assert origin_of(write(tmp_path / "a.dcm", **IDS, **tags)) == Origin(**{**vars(PLAIN), **place})


def test_a_frame_has_a_place_of_its_own(tmp_path):
    groups = said_of_frames([{"PixelSpacing": [0.5, 0.5]}, {"PixelSpacing": [0.25, 0.25]}])
    for number, item in enumerate(groups["PerFrameFunctionalGroupsSequence"]):
        position, orientation = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, number]
        orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        item.PlanePositionSequence, item.PlaneOrientationSequence = [position], [orientation]
    path = write(tmp_path / "film.dcm", np.stack([RAMP] * 2), **IDS, **groups, FrameOfReferenceUID="1.2.9")
    found = origin_of(path.with_name("film.dcm#2"))
    assert (found.frame, found.spacing, found.position) == (2, (0.25, 0.25), (0, 0, 1))
    assert origin_of(write(tmp_path / "one.dcm", RAMP[None], **IDS).with_name("one.dcm#1")) == PLAIN
    with pytest.raises(ImageError, match="needed 1 to 2"):
        origin_of(path.with_name("film.dcm#3"))


def test_the_patient_is_read_where_that_is_asked_and_never_else(tmp_path):
    path = write(tmp_path / "a.dcm", **IDS, PatientSex="F", StudyDate="20200229", AccessionNumber="A1")
    assert origin_of(path).patient == {}
    kept = origin_of(path, keep_patient=True)
    assert {name: value for name, value in kept.patient.items() if value} == {
        **PATIENT,
        **{"PatientSex": "F", "StudyDate": "20200229", "AccessionNumber": "A1"},
    }
    assert PATIENT["PatientName"] not in repr(kept)


def test_a_name_in_letters_of_its_own_is_read_as_it_is(tmp_path):
    path = write(tmp_path / "a.dcm", **IDS, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg")
    assert origin_of(path, keep_patient=True).patient["PatientName"] == "Müller^Jörg"


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        ({"SeriesInstanceUID": "1.2"}, "has no valid StudyInstanceUID; needed one to file results beside it"),
        ({**IDS, "SeriesInstanceUID": ("UI", "DOE^JANE")}, "no valid SeriesInstanceUID"),
        ({**IDS, "PatientBirthDate": ("DA", "tomorrow")}, "a PatientBirthDate as the standard has none"),
    ],
)
def test_what_cannot_be_filed_is_refused(tags, says, tmp_path):
    with pytest.raises(ImageError, match=says) as refused:
        origin_of(write(tmp_path / "a.dcm", **tags), keep_patient=True)
    assert "DOE" not in str(refused.value)


def test_a_uid_of_a_kind_that_there_is_not_is_none(tmp_path):
    content = dicom(**IDS, FrameOfReferenceUID="1.2.9")
    (tmp_path / "a.dcm").write_bytes(content.replace(b"\x20\0\x52\0UI", b"\x20\0\x52\0UY"))
    assert origin_of(tmp_path / "a.dcm") == PLAIN
    (tmp_path / "a.dcm").write_bytes(content.replace(b"\x20\0\x0d\0UI", b"\x20\0\x0d\0UY"))
    with pytest.raises(ImageError, match="no valid StudyInstanceUID"):
        origin_of(tmp_path / "a.dcm")


def test_another_file_belongs_to_no_study(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match="no DICOM file; needed one to write results in DICOM"):
        origin_of(tmp_path / "a.png")
    with pytest.raises(ImageError, match="cannot be read"):
        origin_of(tmp_path / "absent.dcm")
    assert (
        origin_of(
            write(tmp_path / "p.dcm", **IDS, **palette([[0, 1, 9, 1, 199, 60_000]] * 3, segmented=True))
        )
        == PLAIN
    )


def test_dates_from_before_the_standard_are_kept_as_it_writes_them(tmp_path):
    old = {
        "StudyDate": ("DA", "1995.06.26"),
        "StudyTime": ("TM", "11:20:00.5"),
        "PatientBirthDate": ("DA", ""),
    }
    patient = origin_of(write(tmp_path / "a.dcm", **IDS, **old), keep_patient=True).patient
    kept = [patient[name] for name in ("StudyDate", "StudyTime", "PatientBirthDate")]
    assert kept == ["19950626", "112000.5", ""]


def test_directions_of_few_digits_are_made_rigid_and_exact_ones_stay(tmp_path):
    place = {**IDS, "FrameOfReferenceUID": "1.2.9", "ImagePositionPatient": [0, 0, 0], "PixelSpacing": [1, 1]}
    exact = (0.6, 0.8, 0.0, -0.8, 0.6, 0.0)
    kept = origin_of(write(tmp_path / "a.dcm", **place, ImageOrientationPatient=list(exact))).orientation
    assert kept == exact
    rough = [0.9998, 0.0175, 0, -0.0175, 1, 0]
    made = origin_of(write(tmp_path / "b.dcm", **place, ImageOrientationPatient=rough)).orientation
    directions = np.reshape(made, (2, 3))
    assert np.abs(directions @ directions.T - np.eye(2)).max() < 1e-11
    assert np.abs(np.subtract(made, rough)).max() < 1e-3
