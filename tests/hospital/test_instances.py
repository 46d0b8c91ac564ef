"""Instances that are read back: values, geometry, references, and no word that was not asked for.

The Debian packages dcmtk and dicom3tools bring the validators; without them their tests are skipped.
"""

from __future__ import annotations

import io
import random
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from PIL import Image

pytest.importorskip("highdicom", reason="writing DICOM needs the extra [dicom]")

from pydicom.uid import CTImageStorage, UltrasoundMultiFrameImageStorage

from ttr.datasets.dicom.origin import PATIENT, Origin
from ttr.hospital.filing import FIRST_SERIES, Filing
from ttr.hospital.instance import MANUFACTURER, RESEARCH, Maker, named_uids, new_uids
from ttr.hospital.parametric_map import UNSEEN, Quantity, parametric_map
from ttr.hospital.report import Group, Number, report
from ttr.hospital.secondary_capture import capture, captured_size, secondary_capture
from ttr.version import __version__
from ttr.wording import DISCLAIMER

CT = Origin(
    *("1.2.3", "1.2.3.1", "1.2.3.4", CTImageStorage, (12, 20)),
    frame_of_reference="1.2.3.9",
    spacing=(0.5, 0.25),
    thickness=2.0,
    position=(-10.0, -20.0, 30.5),
    orientation=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
)
NOWHERE = Origin("1.2.4", "1.2.4.1", "1.2.4.4", "1.2.840.10008.5.1.4.1.1.6", (12, 20))
FILM = replace(NOWHERE, kind=UltrasoundMultiFrameImageStorage, frame=3, spacing=(0.1, 0.1))
ORIGINS = {"CT": CT, "retired kind, no place": NOWHERE, "frame": FILM}
ATTENTION = Quantity("CLSATTENTION", "CLS attention to a patch", "ATTENTION", "inferno")
MAKER = Maker("timm:a-long-name" * 6, "0123456789abcdef")
VALUES = np.random.default_rng(0).random((12, 20), dtype=np.float32) * 0.01
VALUES[:2] = UNSEEN
KEPT = {
    "PatientName": "Müller^Jörg",
    "PatientID": "4711",
    "PatientBirthDate": "19700101",
    "StudyDate": "20200229",
}
#: What no image without a place in a patient can have; the validator asks for all three at once.
PLACES = {f"Plane{each}Sequence" for each in ("Position", "Orientation", "PositionSlide")}


def read_back(made):
    stream = io.BytesIO()
    made.save_as(stream, enforce_file_format=True)
    return pydicom.dcmread(io.BytesIO(stream.getvalue()))


def made_map(origin, values=VALUES, high=0.01):
    filing = Filing(None, new_uids(random.Random(7)))
    place = filing.place(origin, "Attention after registers, map")
    return read_back(
        parametric_map(values, ATTENTION, high, origin, MAKER, place, origin.frame_of_reference or "1.2.9")
    )


def made_capture(origin):
    pixels = capture(Image.new("RGB", (40, 24)), np.ones(captured_size(40, 24)), 2.0, "inferno", "Norm", "m")
    place = Filing(None, new_uids(random.Random(7))).place(origin, "Norm after registers, picture")
    return read_back(secondary_capture(pixels, origin, MAKER, place))


def made_report(origin):
    numbers = [
        Number("OUTLIERPATCHES", "outlier patches", 4.0, "patches"),
        Number("MAXPATCHNORM", "norm", 419.2637023),
    ]
    numbers.append(Number("FAITHFULNESS", "faithfulness", float("nan")))
    words = [(("INTENDEDUSE", "Intended use"), ("RESEARCHONLY", DISCLAIMER))]
    uid = new_uids(random.Random(7))
    groups = [Group("BARE", "Bare model", numbers, words), Group("WRAPPED", "Wrapped model", numbers, words)]
    return read_back(
        report(groups, ["block 3"], origin, MAKER, Filing(None, uid).place(origin, "Numbers"), uid)
    )


MADE = {"map": made_map, "capture": made_capture, "report": made_report}


def pixels_of_map(data):
    return np.frombuffer(data.FloatPixelData, "<f4").reshape(data.Rows, data.Columns)


@pytest.mark.parametrize("origin", ORIGINS.values(), ids=ORIGINS)
def test_a_map_has_its_values_on_the_sources_grid(origin):
    data = made_map(origin)
    assert np.array_equal(pixels_of_map(data), VALUES)
    assert (data.NumberOfFrames, data.FloatPixelPaddingValue, data.FloatPixelPaddingRangeLimit) == (1, -1, -1)
    shared = data.SharedFunctionalGroupsSequence[0]
    mapping, window = shared.RealWorldValueMappingSequence[0], shared.FrameVOILUTSequence[0]
    ends = mapping.DoubleFloatRealWorldValueFirstValueMapped, mapping.DoubleFloatRealWorldValueLastValueMapped
    assert (ends[0], mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (0, 1, 0)
    assert ends[1] == pytest.approx(0.01)
    assert (window.WindowCenter, window.WindowWidth, window.VOILUTFunction) == (0.005, 0.01, "LINEAR_EXACT")
    assert "-1: the model did not see this pixel" in data.ImageComments


def test_a_map_lies_where_its_source_lies():
    data = made_map(CT)
    shared, each = data.SharedFunctionalGroupsSequence[0], data.PerFrameFunctionalGroupsSequence[0]
    measures = shared.PixelMeasuresSequence[0]
    assert data.FrameOfReferenceUID == CT.frame_of_reference
    assert (tuple(measures.PixelSpacing), measures.SliceThickness) == (CT.spacing, CT.thickness)
    assert "SpacingBetweenSlices" not in measures
    assert tuple(shared.PlaneOrientationSequence[0].ImageOrientationPatient) == CT.orientation
    assert tuple(each.PlanePositionSequence[0].ImagePositionPatient) == CT.position


@pytest.mark.parametrize("origin", [NOWHERE, FILM], ids=["without spacing", "with"])
def test_a_map_of_an_image_without_a_place_has_none(origin):
    data = made_map(origin)
    shared, each = data.SharedFunctionalGroupsSequence[0], data.PerFrameFunctionalGroupsSequence[0]
    assert "PlaneOrientationSequence" not in shared
    assert "PlanePositionSequence" not in each
    assert shared.PixelMeasuresSequence[0].get("PixelSpacing") == (
        list(origin.spacing) if origin.spacing else None
    )
    assert "SliceThickness" not in shared.PixelMeasuresSequence[0]
    assert each.FrameContentSequence[0].FrameLabel == "ATTENTION"


def test_a_map_of_zeros_and_one_that_was_not_seen_are_maps():
    for value in (0, UNSEEN):
        data = made_map(CT, np.full((12, 20), value, dtype=np.float32), high=0.0)
        assert set(pixels_of_map(data).ravel()) == {value}


@pytest.mark.parametrize("origin", ORIGINS.values(), ids=ORIGINS)
@pytest.mark.parametrize("kind", MADE)
def test_an_instance_belongs_to_its_study_and_names_its_source(kind, origin):
    data = MADE[kind](origin)
    assert data.StudyInstanceUID == origin.study
    assert data.SeriesInstanceUID != origin.series
    assert data.SeriesInstanceUID != data.SOPInstanceUID != origin.instance
    named = []
    data.walk(lambda at, element: named.append(at) if element.keyword == "ReferencedSOPInstanceUID" else None)
    assert named
    assert {each.ReferencedSOPClassUID for each in named} == {origin.kind}
    assert {each.ReferencedSOPInstanceUID for each in named} == {origin.instance}
    frames = {each.get("ReferencedFrameNumber") for each in named}
    assert origin.frame in frames


@pytest.mark.parametrize("kind", MADE)
def test_an_instance_says_who_made_it_and_that_it_is_for_research_alone(kind):
    data = MADE[kind](CT)
    assert (data.Manufacturer, data.SoftwareVersions) == (MANUFACTURER, __version__)
    assert data.DeviceSerialNumber == MAKER.weights
    assert MAKER.model.startswith(data.ManufacturerModelName)
    assert data.SeriesDescription.endswith(RESEARCH)
    assert any(DISCLAIMER in str(element.value) for element in data.iterall())
    if kind == "map":
        assert data.ContentQualification == "RESEARCH"


@pytest.mark.parametrize("kind", MADE)
def test_the_patient_stays_empty_unless_it_is_kept(kind):
    data = MADE[kind](CT)
    identified = [*PATIENT, "ReferringPhysicianName"]
    assert [data.get(each) or "" for each in identified] == [""] * len(identified)
    group = {element.keyword for element in data if element.tag.group == 0x10}
    assert group == {"PatientName", "PatientID", "PatientBirthDate", "PatientSex"}
    assert not [element for element in data.iterall() if element.tag.is_private]
    kept = MADE[kind](replace(CT, patient=KEPT))
    assert {each: str(kept.get(each)) for each in KEPT} == KEPT


def test_what_was_lost_in_compression_stays_said():
    lossy = {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": 7.5,
        "LossyImageCompressionMethod": "ISO_10918_1",
    }
    for make in (made_map, made_capture):
        data = make(replace(CT, lossy=lossy))
        assert {name: data.get(name) for name in lossy} == lossy


def test_a_report_holds_the_numbers_in_groups():
    data = made_report(CT)
    root = data.ContentTemplateSequence[0].TemplateIdentifier
    (measurements,) = [each for each in data.ContentSequence if each.ValueType == "CONTAINER"]
    assert (root, len(measurements.ContentSequence)) == ("1500", 2)
    for group in measurements.ContentSequence:
        found = {}
        for item in group.ContentSequence:
            if item.ValueType == "NUM":
                value = item.MeasuredValueSequence[0]
                unit = value.MeasurementUnitsCodeSequence[0].CodeValue
                found[item.ConceptNameCodeSequence[0].CodeValue] = (float(value.NumericValue), unit)
        assert found == {
            "OUTLIERPATCHES": (4.0, "{patches}"),
            "MAXPATCHNORM": (pytest.approx(419.2637023, abs=1e-6), "1"),
        }


def test_a_capture_covers_the_picture_as_far_as_the_map_is_large_and_seen():
    values = np.full(captured_size(640, 640), -1.0)
    values[320:480], values[480:] = 0.0, 2.0
    red, yellow = np.array((90, 20, 20)), np.array((253, 231, 37))
    pixels = capture(Image.new("RGB", (640, 640), tuple(red)), values, 2.0, "viridis", "Norm", "m")
    assert pixels.shape == (740, 640, 3)
    assert (pixels[100:320] == red).all(), "not seen, in its own colours"
    assert (pixels[321:480, 1:-1] == red).all(), "0 is transparent"
    assert np.abs(pixels[480:639, 1:-1] - (0.25 * red + 0.75 * yellow)).max() <= 0.5
    assert (pixels[320] == (0, 255, 255))[:640].all(), "a line around what was seen"
    assert (pixels[:40, :230] == 255).any(), "words on the picture"
    assert (pixels[640:] == 255).any(), "words below it"


@pytest.mark.parametrize(
    ("given", "made"),
    [((64, 64), (640, 640)), ((3000, 1500), (512, 1024)), ((1, 50), (640, 13)), ((700, 800), (800, 700))],
)
def test_a_capture_is_large_enough_to_read_and_no_larger_than_a_screen(given, made):
    assert captured_size(*given) == made


def test_uids_are_valid_new_and_the_same_for_a_seed():
    uid = new_uids(random.Random(3))
    found = [uid() for _ in range(100)]
    assert len(set(found)) == 100
    assert all(pydicom.uid.UID(each).is_valid and re.fullmatch(r"2\.25\.\d+", each) for each in found)
    again = new_uids(random.Random(3))
    assert [again() for _ in range(100)] == found
    assert new_uids()() != new_uids()()


def test_what_is_one_thing_of_one_source_series_is_one_series(tmp_path):
    filing = Filing(tmp_path, new_uids(random.Random(0)))
    first, second = (filing.place(replace(CT, instance=f"1.2.{n}"), "maps") for n in (1, 2))
    other, strange = filing.place(CT, "pictures"), filing.place(NOWHERE, "maps")
    assert (first.series, first.instance_number, second.instance_number) == (second.series, 1, 2)
    assert len({first.series, other.series, strange.series}) == 3
    assert (first.series_number, other.series_number, strange.series_number) == (
        *(FIRST_SERIES, FIRST_SERIES + 1),
        FIRST_SERIES,
    )


@pytest.mark.skipif(
    shutil.which("dciodvfy") is None, reason="needs dciodvfy, of the Debian package dicom3tools"
)
@pytest.mark.parametrize("origin", ORIGINS.values(), ids=ORIGINS)
@pytest.mark.parametrize("kind", MADE)
def test_a_validator_finds_no_error(kind, origin, tmp_path):
    MADE[kind](origin).save_as(tmp_path / "a.dcm")
    found = subprocess.run(["dciodvfy", tmp_path / "a.dcm"], capture_output=True, text=True)
    errors = [line for line in (found.stdout + found.stderr).splitlines() if line.startswith("Error")]
    if kind == "map" and origin.position is None:
        errors = [line for line in errors if not any(f"<{place}>" in line for place in PLACES)]
    assert errors == []


@pytest.mark.skipif(
    shutil.which("dsrdump") is None, reason="needs dcmdump and dsrdump, of the Debian package dcmtk"
)
def test_another_reader_opens_all_of_them(tmp_path):
    for kind, make in MADE.items():
        make(FILM).save_as(tmp_path / kind)
        subprocess.run(["dcmdump", "-q", tmp_path / kind], check=True, capture_output=True)
    shown = subprocess.run(["dsrdump", tmp_path / "report"], check=True, capture_output=True, text=True)
    assert not re.search("^E:", shown.stderr, re.MULTILINE)
    assert DISCLAIMER in shown.stdout
    assert "(USm image,,3)" in shown.stdout


def test_named_uids_are_the_same_for_the_same_thing_of_the_same_making():
    uid, again, other = named_uids("model a"), named_uids("model a"), named_uids("model b")
    assert uid("series", "1.2") == again("series", "1.2")
    found = {uid("series", "1.2"), uid("series", "1", "2"), uid("series1.2"), other("series", "1.2")}
    assert len(found) == 4
    assert all(pydicom.uid.UID(each).is_valid and each.startswith("2.25.") for each in found)


def test_an_instance_has_the_number_of_its_source():
    filing = Filing(None, named_uids("a"))
    seventh, second, film = replace(CT, number=7), replace(CT, instance="1.2.9"), replace(FILM, number=7)
    assert [filing.place(each, "maps").instance_number for each in (seventh, second, film)] == [7, 2, 3]
