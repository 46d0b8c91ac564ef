"""The ledger: what was begun is known after a kill, and no other file is taken for one."""

from __future__ import annotations

import sqlite3

import pytest

from ttr.errors import OutputError
from ttr.hospital.web.archive import Instance, Series
from ttr.studies.pacs.batch import Batch
from ttr.studies.pacs.work import Outcome
from ttr.studies.watch.ledger import Ledger

BATCH = Batch(Series("1.2", "1.2.1"), (Instance("1.2.1.1"), Instance("1.2.1.2", 3), Instance("1.2.1.3")))


def test_a_batch_that_was_begun_is_known_after_the_end(tmp_path):
    with Ledger(tmp_path / "new" / "ledger.db") as ledger:
        assert not ledger.knows("1.2.1.1")
        ledger.take(BATCH, {})
        assert ledger.knows("1.2.1.1")
    with Ledger(tmp_path / "new" / "ledger.db") as ledger:
        (found,) = ledger.begun()
        assert (found.name, found.instances) == (BATCH.name, BATCH.instances)
        ledger.finish(found, Outcome(failed={"1.2.1.2": "why"}, ours=["1.2.1.3"]))
        assert ledger.begun() == []
        assert ledger.states() == {"done": 1, "failed": 1, "ours": 1}
        assert ledger.failures() == {"1.2.1.2": "why"}


def test_what_failed_is_new_when_its_file_is_another_or_it_is_asked_for(tmp_path):
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.take(BATCH, {each.uid: "a" for each in BATCH.instances})
        ledger.finish(BATCH, Outcome(failed={"1.2.1.2": "why"}))
        ledger.refuse("file x", "no DICOM", "a")
        assert [ledger.knows(uid, "a") for uid in ("1.2.1.1", "1.2.1.2", "file x")] == [True, True, True]
        assert [ledger.knows(uid, "b") for uid in ("1.2.1.1", "1.2.1.2", "file x")] == [True, False, False]
        assert ledger.forget_failed() == 2
        assert not ledger.knows("1.2.1.2", "a")


def test_a_full_disk_is_a_sentence_and_nothing_is_entered_by_half(tmp_path):
    many = Batch(Series("1.2", "1.2.2"), tuple(Instance(f"1.2.2.{number}") for number in range(500)))
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.take(BATCH, {})
        ledger._base.execute("PRAGMA max_page_count = 4")
        with pytest.raises(OutputError, match="disk is full"):
            ledger.take(many, {})
        assert [found.name for found in ledger.begun()] == [BATCH.name]
        ledger._base.execute("PRAGMA max_page_count = 4000")
        ledger.take(many, {})
        assert len(ledger.begun()) == 2


def test_one_service_has_it_at_a_time(tmp_path):
    with Ledger(tmp_path / "ledger.db"), pytest.raises(OutputError, match="another service has it"):
        Ledger(tmp_path / "ledger.db")
    Ledger(tmp_path / "ledger.db").__exit__(None, None, None)


def test_other_files_are_refused_and_stay(tmp_path):
    (tmp_path / "text").write_bytes(b"not a ledger, but long enough to be read as one" * 30)
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE precious (a)")
    other.close()
    (tmp_path / "folder").mkdir()
    before = {name: (tmp_path / name).read_bytes() for name in ("text", "other.db")}
    for name in ("text", "other.db", "folder", "text/below"):
        with pytest.raises(OutputError, match="--ledger"):
            Ledger(tmp_path / name)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
