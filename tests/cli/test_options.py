"""Options that several commands share."""

from __future__ import annotations

import pytest

from ttr.cli.options import parse_numbers
from ttr.errors import OptionError


def test_lists_and_ranges_are_read_or_refused():
    assert parse_numbers("--top-k", "1, 5,10") == [1, 5, 10]
    assert parse_numbers("--num-registers", "0..3,10,-2..-1") == [0, 1, 2, 3, 10, -2, -1]
    for text in ("", "1,", "a", "3..1", "1..", "1-5", "1.5", "0..99999999"):
        with pytest.raises(OptionError, match="needed numbers such as 1,5,10, or a range 0..5"):
            parse_numbers("--top-k", text)
