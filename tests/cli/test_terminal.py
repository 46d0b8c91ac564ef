"""Tables at the end of a command, on wide and narrow terminals and in pipes."""

from __future__ import annotations

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ttr.cli.terminal import print_table

NAMES = ("name[bold]x[-red].json", "a/folder with a name/neurons-of-hips.json")
NUMBERS = ("8.8e-27", "-0.667..-0.292", "0.12345", "1234567", "0.5", "+3.0", "12")


@pytest.fixture
def table():
    made = Table("first", "second", *(f"number {n}" for n in range(len(NUMBERS))), title="two [sets]")
    made.add_row(*NAMES, *NUMBERS)
    return made


def shown(monkeypatch, capsys, table, width, terminal):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(Console, "is_terminal", terminal)
    print_table(table)
    return Text.from_ansi(capsys.readouterr().out).plain


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("width", [20, 40, 80, 120, 200])
def test_no_number_is_cut_at_any_width(monkeypatch, capsys, table, width, terminal):
    out = shown(monkeypatch, capsys, table, width, terminal)
    assert all(number in out for number in NUMBERS)
    assert "…" not in out


def test_a_file_holds_the_numbers_of_a_row_in_a_line_and_a_narrow_window_a_line_each(
    monkeypatch, capsys, table
):
    lines = shown(monkeypatch, capsys, table, 80, True).splitlines()
    assert {"two [sets]", NAMES[0]} <= set(lines), "a name is no markup"
    assert "    number 0: 8.8e-27" in lines
    row = next(line for line in shown(monkeypatch, capsys, table, 80, False).splitlines() if "8.8" in line)
    assert all(number in row for number in NUMBERS)


def test_text_folds_beside_numbers_where_these_have_their_room(monkeypatch, capsys):
    made = Table("check", "measured")
    made.add_row("a sentence that is much longer than the window has room for", "0.123456")
    out = shown(monkeypatch, capsys, made, 40, True)
    assert "│ 0.123456 │" in out
    assert max(map(len, out.splitlines())) <= 40


def test_words_stay_whole_where_there_is_room(monkeypatch, capsys):
    made = Table("arm", "verdict", "difference")
    made.add_row(
        "random-neurons", "not distinguishable (needs 813 images, of which there are 240)", "+0.012345"
    )
    for width, whole in ((60, True), (46, False)):
        out = shown(monkeypatch, capsys, made, width, True)
        assert ("distinguishable" in out) == whole
        assert "+0.012345" in out
        assert max(map(len, out.splitlines())) <= width
