"""The service: each image once, whenever it is killed; what fails is recorded, and it goes on."""

from __future__ import annotations

import errno
import os
from threading import Event
from types import SimpleNamespace

import pytest

pytest.importorskip("highdicom", reason="writing DICOM needs the extra [dicom]")
pytest.importorskip("prometheus_client", reason="metrics need the extra [dicom]")

from tests.tools.arrived import FEW as EACH
from tests.tools.arrived import SECRETS, SERIES, STUDY, make_few, radiograph, results, tiny_work
from tests.tools.small_archive import SmallArchive
from ttr.errors import ModelError, OutputError
from ttr.hospital.web import exchange as exchanges
from ttr.hospital.web.access import Access
from ttr.hospital.web.archive import Archive
from ttr.hospital.web.exchange import Exchange
from ttr.studies.pacs.work import Work
from ttr.studies.schemas import DICOM, is_result
from ttr.studies.watch.ledger import Ledger
from ttr.studies.watch.monitor import Monitor
from ttr.studies.watch.service import Service
from ttr.studies.watch.sources import ArchiveSource, FolderSource


class Killed(BaseException):
    """Whatever ends a process."""


@pytest.fixture(scope="module")
def work():
    return tiny_work()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder that images arrive in, an archive that results go to, and what a service says."""
    make_few(monkeypatch)
    monkeypatch.setattr(exchanges, "WAITS", ())
    (tmp_path / "incoming").mkdir()
    monitor = Monitor()
    monitor.loaded()
    with SmallArchive() as served:
        yield SimpleNamespace(
            folder=tmp_path / "incoming",
            kept=tmp_path / "kept",
            ledger=tmp_path / "ledger.db",
            served=served,
            said=[],
            monitor=monitor,
        )


def arrive(place, *numbers, **options):
    for number in numbers:
        (place.folder / f"Muster-Erika-{number}.dcm").write_bytes(radiograph(number, **options))


def started(place, work, looks=2, query=None, store=True):
    """Start a service as its process would, and let it look so often; return how each look went."""
    with Ledger(place.ledger) as ledger, Exchange(Access.of(place.served.url, {})) as exchange:
        archive = Archive(exchange)
        source = FolderSource(place.folder)
        if query is not None:
            source = ArchiveSource(archive, query, work.series_of)
        target, keep = (archive, None) if store else (None, place.kept)
        service = Service(source, ledger, work, target, keep, 0.0, place.monitor, place.said.append)
        went = [service.look(Event()) for _ in range(looks)]
        place.states, place.failures = ledger.states(), ledger.failures()
        return went


def test_what_arrives_in_a_folder_is_stored_once(place, work):
    arrive(place, 1)
    assert started(place, work) == [True, True]
    assert len(results(place.served)) == EACH
    assert started(place, work) == [True, True]
    assert set(place.served.stored.values()) == {1}
    assert place.states == {"done": 1}
    assert place.said == [f"series {SERIES}: 1 image with results, {EACH} instances stored"]


def test_what_arrives_in_an_archive_is_done_and_its_results_are_not(place, work):
    place.served.put(radiograph(1))
    query = {"StudyInstanceUID": STUDY}
    assert started(place, work, 5, query) == [True] * 5
    assert (place.states, len(results(place.served))) == ({"done": 1}, EACH)
    place.ledger.unlink()
    assert started(place, work, 5, query) == [True] * 5
    assert set(place.served.stored.values()) == {1}, "a new ledger makes nothing twice"


#: Where a process may be killed: before or after what is called then for the so-manieth time.
KILLS = {
    "taken": (Ledger, "take", 1, True),
    "half stored": (Archive, "store", 3, True),
    "stored": (Ledger, "finish", 1, False),
}
MORE_KILLS = {
    "before anything": (Ledger, "take", 1, False),
    "fetched": (FolderSource, "fetch", 1, True),
    "compared": (Archive, "store", 1, False),
    "entered": (Ledger, "finish", 1, True),
}


@pytest.mark.parametrize(
    ("owner", "name", "time", "after"),
    [
        *(pytest.param(*kill, id=name) for name, kill in KILLS.items()),
        *(pytest.param(*kill, id=name, marks=pytest.mark.slow) for name, kill in MORE_KILLS.items()),
    ],
)
def test_after_a_kill_nothing_is_lost_twice_or_half(owner, name, time, after, place, work, monkeypatch):
    arrive(place, 1)
    called, original = [], getattr(owner, name)

    def deadly(*given, **more):
        called.append(1)
        dies = len(called) == time
        if dies and not after:
            raise Killed
        answer = original(*given, **more)
        if dies:
            raise Killed
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, deadly)
        with pytest.raises(Killed):
            started(place, work)
    assert started(place, work) == [True, True]
    assert len(results(place.served)) == EACH
    assert set(place.served.stored.values()) == {1}
    assert place.states == {"done": 1}


def test_a_kill_leaves_one_whole_folder(place, work, monkeypatch):
    arrive(place, 1)
    with monkeypatch.context() as patch:

        def deadly(*given):
            raise Killed

        patch.setattr(Ledger, "finish", deadly)
        with pytest.raises(Killed):
            started(place, work, store=False)
    arrive(place, 2)
    started(place, work, 2, store=False)
    assert [is_result(folder, DICOM) for folder in sorted(place.kept.iterdir())] == [True, True]
    made = [path for folder in place.kept.iterdir() for path in folder.glob("*.dcm")]
    assert (len(made), place.states) == (2 * EACH, {"done": 2})


def test_bad_images_are_recorded_and_the_service_goes_on(place, work):
    arrive(place, 1)
    (place.folder / "Muster-cut.dcm").write_bytes(radiograph(2)[:-2000])
    (place.folder / "Muster-none.dcm").write_bytes(b"nothing")
    arrive(place, 3, series="1.2.88.1", PhotometricInterpretation="XYZ")
    arrive(place, 4, series="1.2.99.1")
    assert started(place, work) == [True, True]
    assert (place.states, len(results(place.served))) == ({"done": 2, "failed": 3}, 2 * EACH)
    told = "\n".join([*place.said, *place.failures, *place.failures.values()])
    assert not [secret for secret in (*SECRETS, str(place.folder)) if secret in told]
    assert "1.2.88.1.3" in place.failures
    for key in place.failures:  # once each, in the log and in the numbers
        assert sum(line.startswith(f"not done: {key}: ") for line in place.said) == 1, key
    assert place.monitor.registry.get_sample_value("ttr_instances_total", {"result": "failed"}) == 3
    before = list(place.said)
    assert started(place, work) == [True, True]
    assert place.said == before, "what is known is not told again"


def test_an_archive_out_of_reach_is_a_failed_poll_and_nothing_is_lost(place, work):
    arrive(place, 1)
    place.served.fault = lambda handler, number: handler.say(503) or True
    assert started(place, work) == [True, False]
    assert (place.monitor.healthy, place.states) == (False, {"taken": 1})
    assert "is busy (503)" in place.said[-1]
    place.served.fault = None
    assert started(place, work, 1) == [True]
    assert (place.states, len(results(place.served))) == ({"done": 1}, EACH)


def test_a_query_that_fails_is_a_failed_poll(place, work):
    place.served.fault = lambda handler, number: handler.say(500) or True
    assert started(place, work, 1, {"Modality": "DX"}) == [False]
    assert "the next look tries again" in place.said[0]


def test_a_full_disk_is_a_failed_look_and_nothing_is_lost(place, work, monkeypatch):
    def full(*given):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/incoming/Muster.dcm")

    def unwritable(*given):
        raise OutputError("no room")

    arrive(place, 1)
    with monkeypatch.context() as patch:
        patch.setattr("ttr.studies.watch.sources.shutil.copyfileobj", full)
        assert started(place, work) == [True, False]
    assert place.said == ["the next look tries again: No space left on device"]
    assert place.states == {"taken": 1}
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "finish", unwritable)
        assert started(place, work, 1) == [False]
    assert "no room" in place.said[-1]
    assert place.states == {"taken": 1}


def test_a_model_that_fits_no_image_ends_it(place, work, monkeypatch):
    def broken(*given):
        raise ModelError("it does more than resize")

    monkeypatch.setattr(Work, "do", broken)
    arrive(place, 1)
    with pytest.raises(ModelError):
        started(place, work)


def test_it_runs_until_it_is_ended(place, work):
    end, looks = Event(), []

    class Nothing:
        def poll(self, ledger):
            looks.append(1)
            if len(looks) == 3:
                end.set()
            return []

    with Ledger(place.ledger) as ledger:
        Service(Nothing(), ledger, work, None, None, 0.0, place.monitor, place.said.append).run(end)
    assert (len(looks), place.monitor.healthy) == (3, True)
