"""A comparison in DICOM: the folder, values at the source's pixels, one scale, nothing of the patient."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pydicom
import pytest

import ttr
from tests.tools.arrived import make_few
from tests.tools.dicom_files import PATIENT, write
from tests.tools.patients import where
from ttr.datasets.registry import given_images, in_memory, phantom_images
from ttr.errors import ImageError, OptionError
from ttr.run import Run
from ttr.studies.compare.write import write_comparison
from ttr.studies.schemas import COMPARISON, DICOM, is_result

pytest.importorskip("highdicom", reason="writing DICOM needs the extra [dicom]")

from ttr.hospital.instance import new_uids
from ttr.studies.compare.dicom_out import CODES, GRADES, DicomOut
from ttr.studies.compare.page import QUANTITIES

QUIET = Run(progress=False, batch_size=4)
#: Long enough to stand nowhere by chance.
PERSON = {"PatientName": PATIENT["PatientName"], "PatientID": "PATIENT-4711-OF-WARD-3"}
NAMES = tuple(PERSON.values())


@pytest.fixture(scope="module")
def phantom():
    return ttr.load("phantom", image_size=64)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Two radiographs of one series, 64 px and 64 x 128, and a film of another study."""
    folder = tmp_path_factory.mktemp("sources")
    pictures = [np.asarray(each.image.convert("L").resize((64, 64))) for each in phantom_images(3)]
    first, second, third = (picture.astype(np.uint16) * 16 for picture in pictures)
    ids = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.1", "PixelSpacing": [0.2, 0.2], **PERSON}
    write(folder / "a.dcm", first, **ids, SOPInstanceUID="1.2.3.1.1")
    write(folder / "b.dcm", np.tile(second, (1, 2)), **ids, SOPInstanceUID="1.2.3.1.2")
    film = {"StudyInstanceUID": "1.2.4", "SeriesInstanceUID": "1.2.4.1", **PERSON}
    write(folder / "film.dcm", np.stack([first, third]), **film)
    return folder


def written(backbone, given, out, how=None, run=QUIET):
    neurons = ttr.RegisterNeurons.from_pairs(backbone.planted)
    how = how or DicomOut(new_uid=new_uids(random.Random(0)))
    return write_comparison(backbone, neurons, given_images(given), out, run=run, dicom=how)


@pytest.fixture(scope="module")
def result(phantom, sources, tmp_path_factory):
    out = tmp_path_factory.mktemp("result") / "out"
    given = [sources / "a.dcm", sources / "b.dcm", sources / "film.dcm#2"]
    return written(phantom, given, out), out


def read(out, number, name):
    return pydicom.dcmread(out / "dicom" / f"{number:04d}-{name}.dcm")


def values(data):
    return np.frombuffer(data.FloatPixelData, "<f4").reshape(data.Rows, data.Columns)


def test_the_folder_is_a_result_within_the_result(result):
    _, out = result
    assert is_result(out, COMPARISON)
    assert is_result(out / "dicom", DICOM)
    manifest = json.loads((out / "dicom" / "manifest.json").read_text())
    assert sorted(manifest["files"]) == sorted(path.name for path in (out / "dicom").glob("*.dcm"))
    assert list(manifest["images"]) == ["a.dcm", "b.dcm", "film.dcm#2"]
    assert [len(files) for files in manifest["images"].values()] == [9, 9, 9]
    assert (manifest["keep_patient"], manifest["outside"]) == (False, -1)
    assert json.loads((out / "manifest.json").read_text())["files"] == ["compare.json", "index.html", "dicom"]


@pytest.mark.parametrize("run", ["before", "after"])
@pytest.mark.parametrize("name", ["attention", "norms"])
def test_each_pixel_of_the_source_has_the_value_of_its_patch(name, run, result):
    compared, out = result
    for number, comparison in enumerate(compared.images, start=1):
        grid = np.kron(getattr(getattr(comparison, run).maps, name), np.ones((16, 16)))
        found = values(read(out, number, f"{name}-{run}-map"))
        if number == 2:  # the model saw the middle of it
            assert found.shape == (64, 128)
            assert (found[:, :32] == -1).all()
            assert (found[:, 96:] == -1).all()
            found = found[:, 32:96]
        assert np.abs(found - grid).max() < 1e-6


def test_before_and_after_share_a_scale_over_all_images(result):
    compared, out = result
    for name in ("attention", "norms"):
        views = [view for each in compared.images for view in (each.before, each.after)]
        high = max(getattr(view.maps, name).max() for view in views)
        for number in (1, 2, 3):
            for run in ("before", "after"):
                shared = read(out, number, f"{name}-{run}-map").SharedFunctionalGroupsSequence[0]
                assert shared.FrameVOILUTSequence[0].WindowWidth == pytest.approx(high)


def test_a_map_of_one_source_series_is_one_series_and_studies_stay_apart(result):
    _, out = result
    first, second, film = (read(out, number, "norms-after-map") for number in (1, 2, 3))
    assert (first.StudyInstanceUID, film.StudyInstanceUID) == ("1.2.3", "1.2.4")
    assert first.SeriesInstanceUID == second.SeriesInstanceUID != film.SeriesInstanceUID
    assert [each.InstanceNumber for each in (first, second, film)] == [1, 2, 2], (
        "a frame is called by its place in the film"
    )
    before = read(out, 1, "norms-before-map")
    assert first.FrameOfReferenceUID == before.FrameOfReferenceUID != second.FrameOfReferenceUID
    assert before.SeriesInstanceUID != first.SeriesInstanceUID
    (source,) = film.SourceImageSequence
    assert (source.ReferencedSOPInstanceUID, source.ReferencedFrameNumber) == ("1.2.3.4", 2)


def test_the_report_says_what_the_json_says(result):
    _, out = result
    entry = json.loads((out / "compare.json").read_text())[2]
    content = read(out, 3, "report").ContentSequence
    groups = next(each for each in content if each.ValueType == "CONTAINER").ContentSequence
    for group, run in zip(groups, ("before", "after"), strict=True):
        numbers, words = {}, set()
        for item in group.ContentSequence:
            if item.ValueType == "NUM":
                value = item.MeasuredValueSequence[0].NumericValue
                numbers[item.ConceptNameCodeSequence[0].CodeValue] = float(value)
            if item.ValueType == "CODE":
                words.add(item.ConceptCodeSequence[0].CodeValue)
        said = {name: entry[run][name] for name, _, _ in QUANTITIES if entry[run][name] is not None}
        assert numbers == {CODES[name][0]: pytest.approx(value, abs=1e-6) for name, value in said.items()}
        assert {"RESEARCHONLY", GRADES[entry[run]["faithfulness_grade"]]} < words


def test_a_capture_has_the_colours_of_the_shared_scale(result):
    _, out = result
    pictures = [read(out, 1, f"attention-{run}-picture").pixel_array for run in ("before", "after")]
    assert pictures[0].shape == pictures[1].shape == (740, 640, 3)
    assert (pictures[0] != pictures[1]).any()
    assert np.array_equal(pictures[0][674:700], pictures[1][674:700]), "bar and its ends"


def test_no_patient_is_written_unless_it_is_asked_for(result, phantom, sources, tmp_path, monkeypatch):
    _, out = result
    make_few(monkeypatch)
    assert where(NAMES, out) == []
    written(phantom, [sources / "a.dcm"], tmp_path / "kept", DicomOut(keep_patient=True))
    files = sorted((tmp_path / "kept" / "dicom").glob("*.dcm"))
    assert {str(pydicom.dcmread(path).PatientID) for path in files} == {PERSON["PatientID"]}
    inside = where(NAMES, tmp_path / "kept" / "index.html", tmp_path / "kept" / "compare.json")
    assert inside == [], "in DICOM alone"


def test_uids_are_those_of_the_generator(result, phantom, sources, tmp_path):
    _, out = result
    written(phantom, [sources / "a.dcm"], tmp_path / "again")
    written(phantom, [sources / "a.dcm"], tmp_path / "new", DicomOut())
    first, again, new = (read(each, 1, "report") for each in (out, tmp_path / "again", tmp_path / "new"))
    assert first.SOPInstanceUID == again.SOPInstanceUID != new.SOPInstanceUID


def test_an_image_of_no_study_is_refused_or_left_out(phantom, sources, tmp_path):
    stray = write(tmp_path / "stray.dcm", np.zeros((64, 64), dtype=np.uint16))
    with pytest.raises(ImageError, match=r"stray\.dcm has no valid StudyInstanceUID"):
        written(phantom, [sources / "a.dcm", stray], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    compared = written(
        phantom, [stray, sources / "a.dcm"], tmp_path / "out", run=replace(QUIET, on_error="skip")
    )
    assert [each.image for each in compared.images] == ["a.dcm"]
    assert "StudyInstanceUID" in compared.skipped["stray.dcm"]
    assert str(tmp_path) not in compared.skipped["stray.dcm"]


def test_images_in_memory_belong_to_no_study(phantom, tmp_path):
    images = in_memory({"one": next(phantom_images(1)).image})
    with pytest.raises(OptionError, match="images in memory belong to no DICOM study"):
        write_comparison(
            phantom, ttr.RegisterNeurons.from_pairs([(0, 1)]), images, tmp_path / "out", dicom=DicomOut()
        )


def test_an_image_of_which_next_to_nothing_is_seen_is_left_out_and_the_others_stay(
    phantom, sources, tmp_path
):
    ids = {"StudyInstanceUID": "1.2.5", "SeriesInstanceUID": "1.2.5.1"}
    line = write(tmp_path / "line.dcm", np.arange(48, dtype=np.uint16)[None], **ids)
    given = [sources / "a.dcm", line]
    compared = written(phantom, given, tmp_path / "out", run=replace(QUIET, on_error="skip"))
    assert [each.image for each in compared.images] == ["a.dcm"]
    assert "less than three pixels" in compared.skipped["line.dcm"]
