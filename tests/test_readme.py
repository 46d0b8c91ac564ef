"""Every snippet of the README runs, and CI runs the README's own test command."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import ttr
from tests.tools import torch_hub
from ttr.cli.main import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)


PYTHON = [code for language, code in SNIPPETS if language == "python"]
#: An export takes as long as all others together: it runs with the slow ones.
QUICK = [code for code in PYTHON if "ttr.export(" not in code]


def run_here(code: str) -> dict:
    """Run a snippet in names of its own, and return what it printed and what its features are."""
    names, printed = {"__name__": "__main__"}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), names)
    shape = list(names["features"].shape) if "features" in names else None
    return {"printed": printed.getvalue(), "features": shape}


#: Runs the snippet of standard input in a process of its own, and says in JSON what became of it.
RUN = f"""
import contextlib, io, json, sys
{inspect.getsource(run_here)}
print(json.dumps(run_here(sys.stdin.read())))
"""


def check(code: str, done: dict) -> None:
    if "features = " in code:
        assert done["features"] == [1, 192]
        counts = [tuple(map(int, re.findall(r"\d+", line))) for line in done["printed"].splitlines()]
        assert len(counts) == 2
        assert all(before > 0 and after == 0 for before, after in counts)


@pytest.mark.parametrize("code", QUICK)
def test_python_snippets_run_in_any_folder(code, tmp_path, monkeypatch):
    torch_hub.stand_in(tmp_path / "torch")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.chdir(tmp_path)
    check(code, run_here(code))


@pytest.mark.slow
@pytest.mark.parametrize("code", PYTHON)
def test_python_snippets_run_in_a_process_of_their_own(code, tmp_path):
    """Whatever another has imported; where one asks torch.hub for DINOv2, a stand-in lies in its cache."""
    torch_hub.stand_in(tmp_path / "torch")
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=code,
        env={**os.environ, "TORCH_HOME": str(tmp_path / "torch")},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    check(code, json.loads(done.stdout.splitlines()[-1]))


def commands() -> list[list[str]]:
    shell = "\n".join(code for language, code in SNIPPETS if language == "bash").replace("\\\n", " ")
    parts = [part for line in shell.splitlines() for part in line.split("&&")]
    return [words for words in map(shlex.split, parts) if words and words[0] == "ttr"]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_and_their_options_exist(words):
    import typer.core
    import typer.main

    group = typer.main.get_command(app)
    command = group.commands[words[1]]
    if isinstance(command, typer.core.TyperGroup):
        command = command.commands[words[2]]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_the_tests_command_is_the_one_that_ci_runs():
    command = 'pip install -c constraints.txt -e ".[test]" && pytest'
    assert f"```bash\n{command}\n```" in README
    assert f"\n{command}\n" in (ROOT / ".ci" / "run").read_text()
    assert command in (ROOT / "CONTRIBUTING.md").read_text()


def test_the_table_of_public_names_is_the_public_surface():
    named = re.findall(r"^\| `ttr\.(\w+)", README, flags=re.MULTILINE)
    assert sorted(named) == sorted(ttr.__all__)


def test_linked_files_exist():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert {"docs/demo.png", "LICENSE"} <= set(links)
    assert all((ROOT / link).exists() for link in links if not link.startswith("http"))


def test_the_changelog_and_the_citation_know_this_version():
    assert f"version: {ttr.__version__}" in (ROOT / "CITATION.cff").read_text()
    assert f'version = "{ttr.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert "## Unreleased" in (ROOT / "CHANGELOG.md").read_text()
