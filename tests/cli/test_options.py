"""Options that several commands share."""

from __future__ import annotations

import pytest
from typer.main import get_command

from ttr.checks import MOST_REGISTERS
from ttr.cli.ablate import AblationOptions
from ttr.cli.bench import BenchmarkOptions
from ttr.cli.main import app
from ttr.cli.options import parse_numbers, points
from ttr.errors import OptionError


def test_lists_and_ranges_are_read_or_refused():
    assert parse_numbers("--top-k", "1, 5,10") == [1, 5, 10]
    assert parse_numbers("--num-registers", "0..3,10,-2..-1") == [0, 1, 2, 3, 10, -2, -1]
    for text in ("", "1,", "a", "3..1", "1..", "1-5", "1.5", "0..99999999"):
        with pytest.raises(OptionError, match="needed numbers such as 1,5,10, or a range 0..5"):
            parse_numbers("--top-k", text)


def test_a_margin_is_given_in_points_and_kept_as_a_share():
    assert points(1.0) == 0.01
    assert AblationOptions(margin=0.5).settings(blocks=4).margin == 0.005
    assert BenchmarkOptions(margin=2.0).settings(classes=6).margin == 0.02
    for margin in (0.0, 100.0, -1.0, float("nan")):
        with pytest.raises(OptionError, match="needed points, above 0 and below 100"):
            points(margin)


def test_every_number_of_registers_has_an_upper_bound():
    commands, bounded = [get_command(app)], 0
    while commands:
        command = commands.pop()
        commands += getattr(command, "commands", {}).values()
        for option in command.params:
            # Where the bounds of a number stand is another place in each version of the library.
            bounds = option if hasattr(option, "max") else getattr(option, "type", None)
            if option.name == "num_registers" and getattr(bounds, "min", None) is not None:
                assert bounds.max == MOST_REGISTERS, command.name
                bounded += 1
    assert bounded > 4
