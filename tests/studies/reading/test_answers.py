"""Answers on the disk: a row is whole or absent, nobody else writes meanwhile, and damage is refused."""

from __future__ import annotations

import os

import pytest

from ttr.errors import DataError, OutputError
from ttr.studies.reading.answers import COLUMNS, NAME, Answer, opened, read_answers

ONE = Answer("t1", "R1", 1, 1, "yes, surely", 80, None, "", 1234, 0, 0, 1, "2026-01-01T00:00:00+00:00")
TWO = Answer("t2", "R1", 1, 2, "", None, None, "A", 999, 50, 1, 2, "2026-01-01T00:00:09+00:00")


@pytest.fixture
def folder(tmp_path):
    with opened(tmp_path) as book:
        book.append(ONE)
        book.append(TWO)
    return tmp_path


def test_what_was_answered_is_read_back(folder):
    assert read_answers(folder) == [ONE, TWO]
    assert (folder / NAME).read_text().splitlines()[0] == ",".join(COLUMNS)
    assert (folder / NAME).stat().st_mode & 0o077 == 0
    assert read_answers(folder / "nothing") == []


def test_a_row_that_a_kill_cut_short_is_absent_at_every_length(folder):
    whole = (folder / NAME).read_bytes()
    before = whole[: whole[:-1].rfind(b"\n") + 1]
    for length in range(len(before), len(whole)):
        (folder / NAME).write_bytes(whole[:length])
        assert read_answers(folder) == [ONE]
        with opened(folder) as book:
            assert book.answers == [ONE]
            book.append(TWO)
        assert (folder / NAME).read_bytes() == whole
    (folder / NAME).write_bytes(whole[:5])  # not even the first line
    with opened(folder) as book:
        book.append(ONE)
    assert read_answers(folder) == [ONE]


def test_an_answer_that_the_disk_has_no_room_for_leaves_nothing(folder, monkeypatch):
    real = os.write
    with opened(folder) as book:
        monkeypatch.setattr(os, "write", lambda handle, line: real(handle, line[:7]))
        with pytest.raises(OutputError, match="make room on the disk"):
            book.append(Answer("t3", *list(vars(TWO).values())[1:]))
        monkeypatch.undo()
        assert book.answers == [ONE, TWO]
    assert read_answers(folder) == [ONE, TWO]


def test_only_one_process_has_the_book(folder):
    with opened(folder), pytest.raises(OutputError, match="readers read in"), opened(folder):
        pass
    with opened(folder):
        pass


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text.replace("trial,", "case,"), "other columns"),
        (lambda text: text.replace("t2", "t1"), "answered twice"),
        (lambda text: text.replace(",999,", ",,"), "a number is missing"),
        (lambda text: text.replace(",999,", ",soon,"), "soon"),
        (lambda text: text.replace(",999,", ",9,9,"), "longer or shorter"),
        (lambda text: text.replace("yes, surely", "\0"), ""),
    ],
)
def test_damage_is_refused(folder, damage, said):
    (folder / NAME).write_text(damage((folder / NAME).read_text()))
    if said:
        with pytest.raises(DataError, match=said):
            read_answers(folder)
    else:
        assert read_answers(folder)[0].answer == "\0"  # whether it is an answer is seen beside the study
