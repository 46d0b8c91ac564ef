"""What is new and at rest, in a folder and in an archive; names of files stay where they are."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from tests.tools.arrived import SERIES, STUDY, radiograph
from tests.tools.small_archive import SmallArchive
from ttr.errors import ImageError, OptionError
from ttr.hospital.web.access import Access
from ttr.hospital.web.archive import Archive, Series
from ttr.hospital.web.exchange import Exchange
from ttr.studies.pacs.work import Outcome
from ttr.studies.watch import sources
from ttr.studies.watch.ledger import Ledger
from ttr.studies.watch.sources import ArchiveSource, FolderSource


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.db") as ledger:
        yield ledger


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "incoming" / "Muster"
    folder.mkdir(parents=True)
    return folder


def uids(batches):
    return [each.uid for batch in batches for each in batch.instances]


def put(folder, number, **options):
    path = folder / f"Muster-Erika-{number}.dcm"
    path.write_bytes(radiograph(number, **options))
    return path


def test_files_at_rest_are_new_once(folder, ledger):
    put(folder, 1)
    put(folder, 2, series="1.2.88.1")
    source = FolderSource(folder.parent)
    assert source.poll(ledger) == []
    batches = source.poll(ledger)
    assert uids(batches) == [f"{SERIES}.1", "1.2.88.1.2"]
    assert uids(source.poll(ledger)) == uids(batches), "until they are taken"
    for batch in batches:
        ledger.take(batch, source.marks())
    assert source.poll(ledger) == []
    put(folder, 3)
    assert (source.poll(ledger), uids(source.poll(ledger))) == ([], [f"{SERIES}.3"])


def test_a_series_waits_for_what_still_changes(folder, ledger):
    put(folder, 1)
    growing = put(folder, 2)
    whole = growing.read_bytes()
    growing.write_bytes(whole[:-4000])
    source = FolderSource(folder.parent)
    for length in (3000, 2000, 1000):
        source.poll(ledger)
        growing.write_bytes(whole[:-length])
    growing.write_bytes(whole)
    assert source.poll(ledger) == []
    assert uids(source.poll(ledger)) == [f"{SERIES}.1", f"{SERIES}.2"]
    assert ledger.states() == {}


def test_what_is_no_dicom_is_left_and_what_cannot_be_read_is_recorded_without_its_name(folder, ledger):
    (folder / "note.txt").write_text("a note")
    (folder / ".hidden.dcm").write_bytes(radiograph(1))
    os.mkfifo(folder / "pipe.dcm")
    broken = folder / "Muster\nErika.dcm"
    broken.write_bytes(b"no DICOM")
    source = FolderSource(folder.parent)
    assert source.poll(ledger) == source.poll(ledger) == []
    ((key, why),) = ledger.failures().items()
    assert (key.startswith("file "), "no DICOM file" in why) == (True, True)
    assert "Muster" not in key + why
    assert str(folder) not in why
    broken.write_bytes(radiograph(1))
    assert (source.poll(ledger), uids(source.poll(ledger))) == ([], [f"{SERIES}.1"])


def test_an_instance_in_two_files_is_one(folder, ledger):
    put(folder, 1)
    (folder / "again.dcm").write_bytes(radiograph(1))
    source = FolderSource(folder.parent)
    source.poll(ledger)
    assert uids(source.poll(ledger)) == [f"{SERIES}.1"]


def test_a_file_is_copied_as_it_was_seen(folder, ledger, tmp_path):
    path = put(folder, 1)
    source = FolderSource(folder.parent)
    source.poll(ledger)
    of, copy = Series(STUDY, SERIES), tmp_path / "1.dcm"
    source.fetch(of, f"{SERIES}.1", copy)
    assert copy.read_bytes() == path.read_bytes()
    path.write_bytes(radiograph(2))
    with pytest.raises(ImageError, match="changed while it was read") as refused:
        source.fetch(of, f"{SERIES}.1", copy)
    path.unlink()
    with pytest.raises(ImageError, match="cannot be read"):
        source.fetch(of, f"{SERIES}.1", copy)
    source.poll(ledger)
    with pytest.raises(ImageError, match="its file is gone"):
        source.fetch(of, f"{SERIES}.1", copy)
    assert "Muster" not in str(refused.value)


def test_a_folder_that_is_none_or_gone_is_refused(folder, ledger):
    with pytest.raises(OptionError, match="is no folder"):
        FolderSource(Path("nowhere"))
    source = FolderSource(folder)
    folder.rmdir()
    with pytest.raises(ImageError, match="is gone"):
        source.poll(ledger)


@pytest.fixture
def served():
    with SmallArchive() as server:
        server.put(radiograph(1))
        with Exchange(Access.of(server.url, {})) as exchange:
            server.client = Archive(exchange)
            yield server


def nothing(series):
    return []


def test_a_series_of_an_archive_is_new_once_it_rests(served, ledger):
    source = ArchiveSource(served.client, {"Modality": "DX"}, nothing)
    assert source.poll(ledger) == []
    served.put(radiograph(2))
    assert source.poll(ledger) == [], "one more came since"
    (batch,) = source.poll(ledger)
    assert uids([batch]) == [f"{SERIES}.1", f"{SERIES}.2"]
    ledger.take(batch, source.marks())
    assert source.poll(ledger) == []
    served.put(radiograph(3))
    assert source.poll(ledger) == []
    (late,) = source.poll(ledger)
    assert uids([late]) == [f"{SERIES}.3"]
    ledger.take(late, source.marks())
    ledger.finish(batch, Outcome(failed={f"{SERIES}.1": "why"}))
    assert uids(source.poll(ledger)) == uids(source.poll(ledger)) == [], "what failed is not asked for again"


def test_series_without_pictures_and_results_are_passed_over(served, ledger):
    served.put(radiograph(1, series="1.2.88.1", Modality="SR", PixelData=None))
    served.put(radiograph(1, series="1.2.99.1"))
    results = {SERIES: [Series(STUDY, "1.2.99.1")]}
    source = ArchiveSource(
        served.client, {"StudyInstanceUID": STUDY}, lambda each: results.get(each.series, [])
    )
    source.poll(ledger)
    assert uids(source.poll(ledger)) == [f"{SERIES}.1"]


def test_today_is_asked_for_since_the_day_before(served, ledger, monkeypatch):
    class Late(date):
        @classmethod
        def today(cls):
            return cls(2026, 3, 1)

    monkeypatch.setattr(sources, "date", Late)
    ArchiveSource(served.client, {"StudyDate": "today"}, nothing).poll(ledger)
    assert served.queries[-1]["StudyDate"] == "20260228-"


def test_what_has_no_valid_uid_stops_no_other_and_is_recorded(served, ledger):
    served.instances[STUDY, "1.2.07", "1.2.7.1"] = radiograph(1)
    source = ArchiveSource(served.client, {"Modality": "DX"}, nothing)
    source.poll(ledger)
    assert uids(source.poll(ledger)) == [f"{SERIES}.1"]
    assert list(ledger.failures().values()) == ["1 of the archive's series or instances have no valid UID"]


def test_links_are_left(folder, ledger, tmp_path):
    (tmp_path / "elsewhere.dcm").write_bytes(radiograph(1))
    (folder / "link.dcm").symlink_to(tmp_path / "elsewhere.dcm")
    source = FolderSource(folder)
    assert [*source.poll(ledger), *source.poll(ledger)] == []


def test_a_file_with_the_uid_of_another_patients_image_is_recorded(folder, ledger):
    put(folder, 1)
    (folder / "z.dcm").write_bytes(
        radiograph(1, study="1.2.66", series="1.2.66.1", SOPInstanceUID=f"{SERIES}.1")
    )
    source = FolderSource(folder)
    source.poll(ledger)
    assert uids(source.poll(ledger)) == [f"{SERIES}.1"]
    assert list(ledger.failures().values()) == [f"has the UID {SERIES}.1 of an image of another series"]
