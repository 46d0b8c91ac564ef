"""Options that go together are one value for the command and single options for the user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
import typer.main
from typer.testing import CliRunner

from ttr.cli.groups import Group, grouped
from ttr.cli.main import app

#: What these run is no model, or one whose answers are known in float32 alone.
RUN_NONE = {"report", "backbones", "neurons compare", "doctor", "data info", "data check"}
RUN_NONE |= {"readers serve", "readers analyse"}
CALLS: list[dict[str, object]] = []


@dataclass(frozen=True, kw_only=True)
class Place(Group):
    """Where."""

    device: Annotated[str, typer.Option(help="A device.")] = "cpu"
    level: Annotated[int, typer.Option("--level", "--floor", min=0)] = 3


@dataclass(frozen=True, kw_only=True)
class Model(Place):
    """What, and where."""

    name: Annotated[str, typer.Option("--model")]


ON_TOP = Place(level=9)


@pytest.fixture
def call():
    """Run a command that takes groups; return its exit status and what it was called with."""
    CALLS.clear()
    small = typer.Typer()

    @small.command()
    @grouped
    def command(*, model: Model, extra: int = 1, place: Annotated[str, typer.Option()] = "x") -> None:
        """Do it."""
        CALLS.append({"model": model, "extra": extra, "place": place})

    @small.command()
    @grouped
    def other(*, where: Place = ON_TOP) -> None:
        """Do something else."""
        CALLS.append({"where": where})

    def run(*words: str):
        result = CliRunner().invoke(small, words)
        return result, CALLS[-1] if CALLS else None

    return run


def test_a_group_arrives_as_one_value(call):
    result, got = call("command", "--model", "m", "--floor", "2", "--extra", "5")
    assert result.exit_code == 0, result.output
    assert got == {"model": Model(name="m", device="cpu", level=2), "extra": 5, "place": "x"}


def test_a_group_that_is_a_default_says_what_its_options_are_by_default(call):
    assert call("other")[1] == {"where": ON_TOP}
    assert call("other", "--level", "0")[1] == {"where": Place(level=0)}


@pytest.mark.parametrize(
    "words", [("command",), ("command", "--model", "m", "--level", "-1"), ("other", "--model", "m")]
)
def test_what_typer_refuses_is_still_refused(call, words):
    result, got = call(*words)
    assert result.exit_code == 2
    assert got is None


def test_every_option_of_every_command_says_what_it_is_for():
    def leaves(group):
        for command in group.commands.values():
            yield from leaves(command) if hasattr(command, "commands") else [command]

    commands = list(leaves(typer.main.get_command(app)))
    assert len(commands) > 15
    silent = [
        f"{command.name} {parameter.opts[0]}"
        for command in commands
        for parameter in command.params
        if not getattr(parameter, "help", None)
    ]
    assert silent == []


def test_every_command_that_runs_a_model_takes_its_type():
    def leaves(command, name=""):
        for word, each in getattr(command, "commands", {}).items():
            yield from leaves(each, f"{name} {word}".strip())
        if not hasattr(command, "commands"):
            yield name, {option for parameter in command.params for option in parameter.opts}

    found = dict(leaves(typer.main.get_command(app)))
    assert {name for name, options in found.items() if "--dtype" not in options} == RUN_NONE
    pooled = {name for name, options in found.items() if "--pooling" in options}
    assert pooled == {"ablate", "embed", "export"}
