"""A refusal is one line that can be read, whatever a file said that stands in it."""

from __future__ import annotations

import pytest

from ttr.errors import SENTENCE, WORD, DataError, ModelError, TTRError


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("a.csv has no rows; needed one an image", "a.csv has no rows; needed one an image"),
        ("column a,b\nc is missing", "column a,b c is missing"),
        ("\x1b[2Jname \x00 \u202egnp.exe\t.", "[2Jname gnp.exe ."),
        ("", ""),
    ],
)
def test_what_moves_the_cursor_or_turns_the_text_is_not_shown(said, shown):
    assert str(DataError(said)) == shown


def test_what_nobody_reads_to_its_end_is_cut_in_the_middle():
    said = str(ModelError("key " + "x" * 5000 + " is unknown; name the architecture"))
    assert said.startswith("key xxx")
    assert said.endswith("is unknown; name the architecture")
    assert len(said) < WORD + 50
    assert len(str(TTRError("word " * 5000))) <= SENTENCE + 1
