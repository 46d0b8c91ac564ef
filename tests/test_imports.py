"""Importing is light, imports point one way, and the command answers at once."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

import ttr
from tests.tools.structure import arrows, between_rooms, circle, modules, room

KNOWN = modules()
ARROWS = arrows(KNOWN)
#: From the ground up: a room imports from its own line and the lines before it.
ORDER = (
    "errors checks version digests locks files folders private_folders progress ranks machines run wording "
    "threads torchvision_operators",
    "tokens hooks norms",
    "datasets",
    "backbones",
    "forward",
    "statistics",
    "analysis",
    "registers",
    "evaluate",
    "attribution",
    "features",
    "drawing",
    "hospital",
    "studies",
    *("apps.image", "apps.html", "apps.tabs", "apps.page", "apps.service", "apps.reading apps.server"),
    "cli __main__",
)
HEAVY = "torch timm open_clip transformers gradio matplotlib numpy PIL torchvision pydantic jinja2 plotly"
LEVEL = {f"ttr.{name}": level for level, line in enumerate(ORDER) for name in line.split()}


def level(module: str) -> int:
    """Return the line of ORDER on which a module, or a room above it, stands."""
    return LEVEL[module] if module in LEVEL else level(module.rpartition(".")[0])


def test_imports_lead_downwards():
    drawn = [(a, b) for a, targets in ARROWS.items() for b in targets]
    assert [f"{a} imports {b}" for a, b in drawn if level(b) > level(a)] == []
    assert len(drawn) > 500
    assert {room(module, KNOWN) for module in KNOWN} > {"ttr.datasets", "ttr.apps.tabs", "ttr.studies.bench"}


def test_imports_name_the_module_that_they_mean():
    """A name of the package's face, or a dot, would lead past the rule."""
    for module, path in KNOWN.items():
        for node in ast.walk(ast.parse(path.read_text())):
            relative = isinstance(node, ast.ImportFrom) and node.level > 0
            face = isinstance(node, ast.Import) and any(alias.name == "ttr" for alias in node.names)
            if isinstance(node, ast.ImportFrom) and node.module == "ttr":
                face = any(f"ttr.{alias.name}" not in KNOWN for alias in node.names)
            assert (relative, face) == (False, False), f"{module}, line {node.lineno}"


def test_a_study_reads_no_other_studys_folder_but_to_demonstrate_reproduce_or_report():
    writers = {
        (a, b)
        for a, targets in ARROWS.items()
        for b in targets
        if b.startswith("ttr.studies.") and b.endswith(".write") and a.startswith("ttr.studies.")
    }
    strangers = {a for a, b in writers if room(a, KNOWN) != room(b, KNOWN)}
    assert {room(a, KNOWN) for a in strangers} <= {"ttr.studies.demo", "ttr.studies.reproduce", "ttr.studies"}


def test_no_imports_run_in_a_circle():
    """Neither among modules, nor among rooms that stand side by side."""
    assert circle(ARROWS) == []
    joined: dict[str, set[str]] = {}
    for a, b in between_rooms(ARROWS, KNOWN):
        if not f"{a}.".startswith(f"{b}.") and not f"{b}.".startswith(f"{a}."):
            joined.setdefault(a, set()).add(b)
    assert len(joined) > 10
    assert circle(joined) == []
    assert circle({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]


@pytest.mark.parametrize("module", ["ttr", "ttr.cli"])
def test_importing_loads_nothing_heavy(module):
    code = f"import sys, {module}; print([m for m in {HEAVY.split()} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_help_asks_for_nothing_heavy():
    """So it answers at once, on whatever machine: nothing but ttr's own commands is read for it."""
    code = (
        "import sys; from ttr.cli import main; sys.argv = ['ttr', '--help']\n"
        "try: main()\n"
        f"finally: print([m for m in {HEAVY.split()} if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said, heavy = run.stdout.strip().rsplit("\n", 1)
    assert "Usage: ttr" in said
    assert heavy == "[]"


def test_the_public_surface_is_what_it_says():
    for name in ttr.__all__:
        assert getattr(ttr, name) is not None
    assert dir(ttr) == sorted(ttr.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ttr.nothing  # noqa: B018


def test_files_are_rooms_not_halls():
    lines = {name: len(path.read_text().splitlines()) for name, path in KNOWN.items()}
    assert {name: count for name, count in lines.items() if count > 400} == {}
