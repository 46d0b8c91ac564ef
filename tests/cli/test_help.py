"""The help as people read it: options by what they are about, whole sentences; and the shell completes."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys

import pytest
import typer

from tests.tools.structure import modules
from ttr.cli.help import OWN, SECTIONS, first_sentence, named, ranged, section_of
from ttr.cli.main import app


def commands(command, name=""):
    for word, each in getattr(command, "commands", {}).items():
        yield from commands(each, f"{name} {word}".strip())
    if not hasattr(command, "commands"):
        yield name, command


def sections(text):
    """Return {title: its lines} of a help."""
    parts = re.split(r"^(\S.*):$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_arguments_are_named_in_the_usage_as_people_write_them(run):
    for command, usage in (
        ("compare", "IMAGE..."),
        ("report", "DIR..."),
        ("data info", "[NAME]"),
        ("readers serve", "DIR"),
    ):
        first = run(*command.split(), "--help")[1].splitlines()[0]
        assert first.endswith(f"{command} [OPTIONS] {usage}")


#: Words that hang on a name which the line before it says in another way, if at all.
HANGING = {"Of", "That", "Such", "To", "As", "So", "Or", "These"}


def test_what_is_said_of_an_option_stands_alone():
    for name, command in commands(typer.main.get_command(app)):
        for parameter in command.params:
            said = getattr(parameter, "help", None) or ""
            assert said.endswith("."), f"{name} {parameter.name}: {said}"
            assert said.split()[0] not in HANGING, f"{name} {parameter.name}: {said}"


def test_options_stand_in_sections_each_once(run):
    _, out, _ = run("bench", "--help")
    found = sections(out)
    assert list(found) == list(SECTIONS)
    for name, title in (("backbone", "Model"), ("dataset", "Images"), ("heads", OWN), ("cache", "Run")):
        assert re.search(rf"^  --{name} ", found[title], re.MULTILINE)
        assert out.count(f"\n  --{name} ") == 1
    assert re.search(r"^  --out ", found["Output"], re.MULTILINE)
    _, out, _ = run("report", "--help")
    assert set(sections(out)) == {"Arguments", OWN}, "few options are one list"


def test_every_section_names_options_that_some_command_has():
    known = {each.name for _, command in commands(typer.main.get_command(app)) for each in command.params}
    assert {name for names in SECTIONS.values() for name in names} <= known
    assert section_of("dtype") == "Model"
    assert section_of("heads") == OWN


#: Options of pip, torchrun and tar, and those that every command has.
OF_OTHERS = {"--help", "--force-reinstall", "--no-deps", "--nproc-per-node"}
OF_OTHERS |= {"--dereference", "--hard-dereference"}


def test_no_text_advises_an_option_that_no_command_has():
    whole = typer.main.get_command(app)
    each = [whole, *(command for _, command in commands(whole))]
    known = {name for command in each for p in command.params for name in (*p.opts, *p.secondary_opts)}
    for module, path in modules().items():
        if module.startswith("ttr.apps"):  # its style sheets have names that begin so
            continue
        texts = [n.value for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Constant)]
        named = re.findall(r"(?<![\w-])--[a-z][a-z-]+", "\n".join(t for t in texts if isinstance(t, str)))
        assert set(named) <= known | OF_OTHERS, module


@pytest.mark.parametrize("group", [(), ("data",), ("reproduce",)])
def test_lists_of_commands_hold_whole_sentences(run, group):
    _, out, _ = run(*group, "--help")
    listed = sections(out)["Commands"]
    assert "..." not in listed
    assert all(row.rstrip().endswith((".", "?")) for row in re.split(r"\n  (?=\S)", listed.strip("\n")))


def test_no_value_is_named_as_a_parser_names_it(run):
    for name, _ in commands(typer.main.get_command(app)):
        _, out, _ = run(*name.split(), "--help")
        assert not re.search(r"<\w|\bx[<>]=|INTEGER", out), name
    assert named("--draws <int range>") == named("--draws INTEGER RANGE") == "--draws N"
    assert named("--by <norms|gradient>") == "--by norms|gradient"
    assert ranged("Draws.  [default: 3; x>=1]") == "Draws.  [default: 3; 1 or more]"
    assert ranged("[default: 0.05; 0<=x<=0.99]") == "[default: 0.05; 0..0.99]"


def test_a_first_sentence_as_short_as_a_title_takes_the_next_one():
    assert (
        first_sentence("Is it right? Hold it against\n    boxes. More.")
        == "Is it right? Hold it against boxes."
    )
    assert first_sentence("Look at everything that is there. More.\n\nYet more.") == (
        "Look at everything that is there."
    )
    assert first_sentence(None) is None


@pytest.mark.parametrize(("words", "completed"), [("ttr loc", "localize"), ("ttr bench --dev", "--device")])
def test_the_shell_completes_commands_and_options(words, completed):
    asked = {"_TTR_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    code = "import sys; sys.argv[0] = 'ttr'; from ttr.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{completed}\n", "")
