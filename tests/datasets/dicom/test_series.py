"""Where a file stands in its series, as its own numbers say it, and nothing of the patient or in words."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.tools.dicom_files import PATIENT, RAMP, dicom, said_of_frames
from ttr.datasets.dicom.series import Member, distances, member
from ttr.errors import ImageError

AXIAL = [1, 0, 0, 0, 1, 0]
OBLIQUE = [1, 0, 0, 0, 0.6, 0.8]


def placed(along, orientation=AXIAL, **tags):
    """Return what a file at a place along the normal of its slices says, shifted within its plane."""
    normal = np.cross(orientation[:3], orientation[3:])
    place = along * normal + 7 * np.asarray(orientation[3:])
    content = dicom(ImagePositionPatient=list(place), ImageOrientationPatient=orientation, **tags)
    return member("a.dcm", content, 500)


def film(places):
    """Return an enhanced file of a frame at each of some places."""
    groups = said_of_frames([{}] * len(places))
    for item, along in zip(groups["PerFrameFunctionalGroupsSequence"], places, strict=True):
        position, orientation = Dataset(), Dataset()
        position.ImagePositionPatient, orientation.ImageOrientationPatient = [0, 0, along], AXIAL
        item.PlanePositionSequence, item.PlaneOrientationSequence = [position], [orientation]
    return dicom(np.stack([RAMP] * len(places)), **groups)


def test_a_file_says_its_series_and_place_in_numbers_alone():
    said = {"SeriesInstanceUID": "1.2.840.7", "SeriesNumber": 3, "InstanceNumber": 17, "Modality": "CT"}
    found = placed(2.5, **said, SeriesDescription="Muster^Erika", PixelSpacing=[1, 0.5])
    assert (found.number, found.instance, found.modality, found.size, found.aspect, found.frames) == (
        *(3, 17, "CT", (8, 8), 2.0, 1),
    )
    assert found.positions == ((0.0, 7.0, 2.5),)
    assert (
        found.series == placed(9, **said).series != placed(9, **{**said, "SeriesInstanceUID": "1.2"}).series
    )
    text = json.dumps(asdict(found))
    assert not [each for each in (*PATIENT.values(), "Erika", "1.2.840") if each in text]
    plain = member("a.dcm", dicom(SeriesNumber=None, Modality="Muster"), 500)
    assert plain == Member("", None, "", (8, 8), 1.0, 1)


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE])
def test_distances_are_measured_along_the_normal(orientation):
    found = distances([placed(along, orientation) for along in (5.0, -2.5, 10.0)])
    np.testing.assert_allclose(found, [[5.0], [-2.5], [10.0]], atol=1e-6)


def test_frames_have_places_of_their_own():
    found = member("a.dcm", film([4.0, 0.0, 2.0]), 500)
    assert found.frames == 3
    assert distances([found]) == [[4.0, 0.0, 2.0]]


def test_without_a_place_of_each_at_one_angle_there_is_no_distance():
    unplaced = member("a.dcm", dicom(), 500)
    for several in ([], [unplaced], [placed(1), unplaced], [placed(1), placed(2, OBLIQUE)], [placed(3)] * 2):
        assert distances(several) is None


@pytest.mark.parametrize(
    ("tags", "rate"),
    [
        ({}, None),
        ({"FrameTime": 40}, 25.0),
        ({"FrameTime": 40, "CineRate": 12}, 12.0),
        ({"FrameTime": 40, "RecommendedDisplayFrameRate": 8}, 8.0),
        ({"RecommendedDisplayFrameRate": 0, "FrameTime": 0.001}, 60.0),
    ],
)
def test_a_film_runs_as_fast_as_it_recommends(tags, rate):
    assert member("a.dcm", dicom(np.stack([RAMP] * 2), **tags), 500).rate == rate


def test_more_frames_than_a_stack_may_have_are_refused():
    with pytest.raises(ImageError, match="holds 3 frames; needed 2 at most"):
        member("a.dcm", dicom(np.stack([RAMP] * 3)), 2)
