"""A batch: its results where they belong, under names of their own, and never twice."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("highdicom", reason="writing DICOM needs the extra [dicom]")

from tests.tools.arrived import FEW as EACH
from tests.tools.arrived import PERSON, SERIES, STUDY, make_few, radiograph, results, tiny_work
from tests.tools.dicom_files import dicom
from tests.tools.small_archive import SmallArchive
from ttr.errors import ArchiveError, OutputError
from ttr.hospital.web.access import Access
from ttr.hospital.web.archive import Archive, Instance, Series
from ttr.hospital.web.exchange import Exchange
from ttr.studies.compare.dicom_out import titles, write_dicom
from ttr.studies.compare.settings import ComparisonSettings
from ttr.studies.pacs.batch import MOST_FRAMES, MOST_IMAGES, Batch, batches_of
from ttr.studies.pacs.run import find, run_all
from ttr.studies.pacs.work import FETCHED
from ttr.studies.schemas import DICOM, is_result
from ttr.wording import MANUFACTURER

#: Of these those in a series that could hold images; a report's says that it does not.
PICTURES = EACH - 1
OF = Series(STUDY, SERIES, "DX")


@pytest.fixture(scope="module")
def work():
    return tiny_work()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder for temporary files, in which nothing may stay; of an image few instances are made."""
    make_few(monkeypatch)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def served(place):
    with SmallArchive() as server:
        server.put(radiograph(1))
        yield server


@pytest.fixture
def archive(served):
    with Exchange(Access.of(served.url, {}), sleep=lambda seconds: None) as exchange:
        yield Archive(exchange)


@pytest.fixture(scope="module")
def stored(work):
    """What an archive of the first radiograph holds once it was done."""
    with pytest.MonkeyPatch.context() as patch, SmallArchive() as server:
        make_few(patch)
        server.put(radiograph(1))
        with Exchange(Access.of(server.url, {})) as exchange:
            run_all(Archive(exchange), work, all_of(Archive(exchange)), store=True, keep=None)
        return dict(server.instances)


def all_of(archive):
    return find(archive, {"StudyInstanceUID": STUDY})


def test_results_lie_beside_their_source_with_its_patient(archive, served, work, monkeypatch):
    monkeypatch.setattr("ttr.studies.pacs.batch.MOST_IMAGES", 1)
    served.put(radiograph(2))
    found = all_of(archive)
    served.requests.clear()
    summary = run_all(archive, work, found, store=True, keep=None)
    lists = [path for _, path in served.requests if path.endswith("/instances")]
    assert (len(found.batches), len(lists)) == (2, EACH), "once for a series, not for each of its batches"
    made = results(served)
    assert (summary.done, summary.stored, summary.there, summary.failed) == (2, 2 * EACH, 0, {})
    assert {data.StudyInstanceUID for data in made} == {STUDY}
    assert len({data.SeriesInstanceUID for data in made} - {SERIES}) == EACH
    assert {(str(data.PatientName), data.PatientID) for data in made} == {tuple(PERSON.values())}
    assert {str(data.SOPInstanceUID) for data in made} == (
        work.expected(Instance(f"{SERIES}.1")) | work.expected(Instance(f"{SERIES}.2"))
    )


def test_what_is_there_is_neither_fetched_nor_stored_again(archive, served, work, stored):
    served.instances = dict(stored)
    summary = run_all(archive, work, all_of(archive), store=True, keep=None)
    assert (summary.done, summary.stored, summary.there, len(summary.ours)) == (1, 0, EACH, PICTURES)
    assert not [path for method, path in served.requests if method == "POST" or path.count("/") == 7]


def test_a_run_that_ended_anywhere_is_completed(archive, served, work):
    served.fault = lambda handler, number: handler.command == "POST" and _at_most(handler, served, 3)
    with pytest.raises(ArchiveError, match="answered with 507"):
        run_all(archive, work, all_of(archive), store=True, keep=None)
    assert sum(served.stored.values()) == 3
    before, served.fault = dict(served.instances), None
    summary = run_all(archive, work, all_of(archive), store=True, keep=None)
    assert (summary.done, summary.stored, summary.there) == (1, EACH - 3, 3)
    assert set(served.stored.values()) == {1}
    assert {key: served.instances[key] for key in before} == before


def _at_most(handler, served, count):
    full = sum(served.stored.values()) >= count
    if full:
        handler.say(507)
    return full


def test_other_settings_make_other_results_and_none_of_our_own(archive, served, work, stored):
    served.instances = dict(stored)
    others = [replace(work, settings=ComparisonSettings(2)), replace(work, keep_patient=False)]
    for number, other in enumerate(others, start=2):
        summary = run_all(archive, other, all_of(archive), store=True, keep=None)
        assert summary.stored == EACH
        assert len(results(served)) == number * EACH
        assert len(summary.ours) == (number - 1) * PICTURES, "instances of earlier ones are no images"


def test_results_are_kept_on_disk_too(archive, work, tmp_path):
    summary = run_all(archive, work, all_of(archive), store=False, keep=tmp_path / "kept")
    (folder,) = (tmp_path / "kept").iterdir()
    assert is_result(folder, DICOM)
    assert (folder.name.startswith(f"{SERIES}-"), summary.stored) == (True, 0)
    assert len(list(folder.glob("*.dcm"))) == EACH
    before = (folder / "manifest.json").stat().st_ino
    run_all(archive, work, all_of(archive), store=False, keep=tmp_path / "kept")
    assert (folder / "manifest.json").stat().st_ino == before, "not made again"
    next(folder.glob("*.dcm")).unlink()
    run_all(archive, work, all_of(archive), store=False, keep=tmp_path / "kept")
    assert len(list(folder.glob("*.dcm"))) == EACH, "what is lost is made again"
    run_all(archive, replace(work, keep_patient=False), all_of(archive), store=False, keep=tmp_path / "kept")
    assert len(list((tmp_path / "kept").iterdir())) == 2, "of other settings: another folder"


def test_bad_instances_are_named_and_the_others_done(archive, served, work):
    served.instances[STUDY, SERIES, f"{SERIES}.3"] = radiograph(3)[:-1000]
    served.instances[STUDY, SERIES, f"{SERIES}.4"] = radiograph(4, PixelData=None)
    served.instances[STUDY, SERIES, f"{SERIES}.5"] = radiograph(9)
    served.put(dicom(np.zeros((MOST_FRAMES + 1, 8, 8), np.uint8), **_ids(6)))
    summary = run_all(archive, work, all_of(archive), store=True, keep=None)
    assert (summary.done, summary.stored) == (1, EACH)
    says = ["ends within its pixels", "holds no pixels", "another instance", "513 frames; needed 512"]
    assert list(summary.failed) == [f"{SERIES}.{number}" for number in (3, 4, 5, 6)]
    for why, word in zip(summary.failed.values(), says, strict=True):
        assert word in why
        assert os.sep not in why, "no path"


def _ids(number):
    return {"StudyInstanceUID": STUDY, "SeriesInstanceUID": SERIES, "SOPInstanceUID": f"{SERIES}.{number}"}


def test_pixels_that_turn_out_bad_are_named_where_all_are(archive, served, work):
    served.instances.clear()
    served.put(radiograph(1, RescaleSlope="1e308"))
    summary = run_all(archive, work, all_of(archive), store=True, keep=None)
    assert (summary.done, summary.stored, list(summary.failed)) == (0, 0, [f"{SERIES}.1"])


def test_an_images_numbers_depend_on_no_other_of_its_batch(archive, served, work, monkeypatch, tmp_path):
    trust = []

    def first(folder, backbone, comparisons, *more):
        trust.append(comparisons[0].after.trust)
        return write_dicom(folder, backbone, comparisons[:1], *more)

    monkeypatch.setattr("ttr.studies.pacs.work.write_dicom", first)
    run_all(archive, work, all_of(archive), store=False, keep=tmp_path / "kept")
    for number in range(2, 10):
        served.put(radiograph(number))
    run_all(archive, work, all_of(archive), store=False, keep=tmp_path / "kept")
    alone, among = map(vars, trust)
    assert among == pytest.approx(alone, abs=1e-4)


def test_what_an_archive_refuses_is_named(archive, served, work):
    refused = sorted(work.expected(Instance(f"{SERIES}.1")))[:2]
    served.refused = set(refused)
    summary = run_all(archive, work, all_of(archive), store=True, keep=None)
    assert (summary.done, summary.stored, list(summary.failed)) == (0, EACH - 2, [f"{SERIES}.1"])
    assert "C000" in summary.failed[f"{SERIES}.1"]


def test_frames_of_a_film_are_images(archive, served, work, monkeypatch):
    served.instances.clear()
    pixels = np.random.default_rng(0).integers(0, 255, (2, 64, 64)).astype(np.uint8)
    served.put(dicom(pixels, **_ids(1)))
    summary = run_all(archive, work, all_of(archive), store=True, keep=None)
    assert (summary.done, summary.stored) == (2, 2 * EACH)
    source = find(archive, {"SeriesInstanceUID": SERIES})
    monkeypatch.setattr("ttr.hospital.web.archive.MOST_INSTANCES", 1)
    again = run_all(archive, work, source, store=True, keep=None)
    assert (again.stored, again.there) == (0, 2 * EACH), "of a series more results than instances"


def test_what_is_bad_hides_nothing_that_is_done(archive, served, work, stored):
    served.instances = dict(stored)
    served.instances[STUDY, SERIES, f"{SERIES}.3"] = radiograph(3)[:-1000]
    summary = run_all(archive, work, all_of(archive), store=True, keep=None)
    assert (summary.done, summary.stored, summary.there) == (1, 0, EACH)
    assert list(summary.failed) == [f"{SERIES}.3"]


def test_an_archive_may_claim_any_number_of_frames_or_instances(archive, served, work, monkeypatch):
    assert len(work.expected(Instance("1.2", 10**9))) == EACH * (MOST_FRAMES + 1)
    monkeypatch.setattr("ttr.studies.pacs.run.MOST", 0)
    with pytest.raises(ArchiveError, match="finds more than 0 instances"):
        all_of(archive)


def test_a_query_that_finds_no_pictures_is_refused(archive, served):
    with pytest.raises(ArchiveError, match="finds nothing; check"):
        find(archive, {"StudyInstanceUID": "1.9"})
    served.instances.clear()
    served.put(radiograph(1, Modality="SR", PixelData=None))
    with pytest.raises(ArchiveError, match="1 series without pictures"):
        all_of(archive)


def test_a_series_is_cut_the_same_way_each_time():
    instances = [Instance(f"1.{n}", 1 + 40 * (n == 7)) for n in range(1, 100)]
    cut = list(batches_of(OF, instances))
    assert cut == list(batches_of(OF, instances[::-1]))
    assert [uid for batch in cut for uid in (each.uid for each in batch.instances)] == sorted(
        each.uid for each in instances
    )
    assert all(sum(each.frames for each in batch.instances) < MOST_IMAGES + 41 for batch in cut)
    assert len({batch.name for batch in cut}) == len(cut) == 7
    assert list(batches_of(OF, [])) == []


def test_titles_are_those_that_are_written(served, stored):
    served.instances = dict(stored)
    said = {data.SeriesDescription.partition(" - FOR")[0] for data in results(served)}
    assert said == set(titles())


def test_where_one_image_is_the_end_of_all_each_is_tried_alone(archive, served, work, monkeypatch):
    served.put(radiograph(2))

    def broken(folder, backbone, comparisons, *more):
        if any(each.image == f"{SERIES}.1.dcm" for each in comparisons):
            raise RuntimeError(PERSON["PatientID"])
        return write_dicom(folder, backbone, comparisons, *more)

    monkeypatch.setattr("ttr.studies.pacs.work.write_dicom", broken)
    summary = run_all(archive, work, all_of(archive), store=True, keep=None)
    assert (summary.done, summary.stored) == (1, EACH)
    assert summary.failed == {f"{SERIES}.1": "unexpected RuntimeError, a fault of ttr: report it"}


def test_a_full_disk_is_no_images_fault(archive, work, monkeypatch):
    def full(*given):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ttr.studies.pacs.work.write_dicom", full)
    (batch,) = all_of(archive).batches
    with pytest.raises(OutputError, match="No space"):
        work.do(batch, archive.fetch, archive, None)


def test_what_says_that_ttr_made_it_hides_no_other_image(archive, served, work):
    served.put(radiograph(0, Manufacturer=MANUFACTURER))
    summary = run_all(archive, work, all_of(archive), store=True, keep=None)
    assert (summary.done, summary.ours, summary.failed) == (1, [f"{SERIES}.0"], {})


def test_what_a_killed_run_fetched_goes_at_the_next_start(place):
    left = place / "ttr-pacs-left"
    left.mkdir()
    (left / FETCHED.lock).write_bytes(FETCHED.mark)
    (left / "1.2.3.dcm").write_bytes(b"a patient")
    with FETCHED.folder():
        assert not left.exists()


def test_a_batch_knows_its_name():
    one, other = (Batch(OF, (Instance("1.2"), Instance(uid))) for uid in ("1.3", "1.4"))
    assert one.name != other.name == Batch(OF, other.instances).name
