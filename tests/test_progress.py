"""Progress where nobody sees a bar."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ttr import progress


@pytest.fixture
def clock(monkeypatch):
    """Let time pass by hand, also for the library that estimates."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now.seconds)
    return now


def test_a_log_gets_a_line_a_minute_with_rate_and_estimate(clock, capsys):
    with progress.progress_bar("embedding", 10_000, show=True) as advance:
        for _ in range(25):
            clock.seconds += 5
            advance(50)
    lines = [line for line in capsys.readouterr().err.splitlines() if "min left" in line]
    assert [line.partition(",")[0] for line in lines] == ["embedding: 600 of 10", "embedding: 1"]
    assert all("10.0/s" in line for line in lines)
    assert lines[0].endswith("about 16 min left")


def test_nothing_is_said_where_nothing_is_to_be_shown_and_nothing_is_left_of_what_failed(clock, capsys):
    with progress.progress_bar("embedding", None, show=False) as advance:
        clock.seconds += 100
        advance(1)
    with pytest.raises(ValueError), progress.progress_bar("embedding", 3, show=True):  # noqa: PT011
        raise ValueError
    assert capsys.readouterr().err == ""


def test_a_number_without_an_end_stands_alone(clock, capsys):
    with progress.progress_bar("reading", None, show=True) as advance:
        advance(26)
    shown = capsys.readouterr().err
    assert "26" in shown
    assert "?" not in shown.replace("-:--:--", "")
