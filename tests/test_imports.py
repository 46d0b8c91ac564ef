"""Importing is light, imports point one way, and the command answers at once."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ttr

PACKAGE = Path(ttr.__file__).parent
#: From the ground up; a module may import from its own line and the lines above it.
ORDER = [
    ("errors", "version", "files", "progress", "wording", "threads", "torchvision_operators"),
    ("tokens", "hooks", "norms"),
    ("datasets",),
    ("backbones",),
    ("forward",),
    ("statistics",),
    ("analysis",),
    ("registers",),
    ("evaluate",),
    ("features",),
    ("drawing",),
    ("studies",),
    ("apps",),
    ("cli", "__main__"),
]


#: Symbolic links are not followed by rglob on every Python, so the linked rooms are named.
FILES = sorted({p for pattern in ("*.py", "*/*.py", "*/*/*.py") for p in PACKAGE.glob(pattern)})


def level(module: str) -> int:
    room = module.split(".")[1]
    return next(i for i, rooms in enumerate(ORDER) if room in rooms)


def imported_at_run_time(tree: ast.AST) -> set[str]:
    """Return the ttr modules that a module imports, those for type checking alone left out."""
    found = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ttr."):
            found.add(node.module)
        elif isinstance(node, ast.ImportFrom) and node.module == "ttr":
            found |= {f"ttr.{alias.name}" for alias in node.names}
        found |= imported_at_run_time(node)
    return found


def test_imports_point_one_way():
    checked = 0
    for path in FILES:
        relative = path.relative_to(PACKAGE)
        if relative.parts == ("__init__.py",):
            continue
        module = "ttr." + ".".join(relative.with_suffix("").parts)
        for other in imported_at_run_time(ast.parse(path.read_text())):
            assert level(other) <= level(module), f"{module} imports upward from {other}"
            checked += 1
    assert checked > 60
    assert {"apps", "datasets"} <= {path.parent.name for path in FILES}


@pytest.mark.parametrize("module", ["ttr", "ttr.cli"])
def test_importing_loads_nothing_heavy(module):
    heavy = "torch timm open_clip transformers gradio matplotlib numpy PIL torchvision pydantic jinja2 plotly"
    code = f"import sys, {module}; print([m for m in {heavy.split()} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_timm_and_open_clip_import_after_ttr_whatever_torchvision_was_built_for():
    """And the finder right behind ours is asked for torchvision too: nothing leaves the list meanwhile."""
    code = (
        "import sys, ttr; asked = []\n"
        "class Watch:\n"
        "    def find_spec(self, name, path, target=None): asked.append(name)\n"
        "sys.meta_path.insert(1, Watch()); import timm, open_clip, torchvision; print('torchvision' in asked)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "True"


def test_help_answers_at_once():
    """The bound is what a user notices; the work done is held by the test above."""
    best = min(_seconds([sys.executable, "-m", "ttr", "--help"]) for _ in range(3))
    bare = min(_seconds([sys.executable, "-c", "pass"]) for _ in range(3))
    assert best < 0.5 + 10 * bare


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - start


def test_the_public_surface_is_what_it_says():
    for name in ttr.__all__:
        assert getattr(ttr, name) is not None
    assert dir(ttr) == sorted(ttr.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ttr.nothing  # noqa: B018


def test_files_are_rooms_not_halls():
    lines = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in FILES}
    assert {name: count for name, count in lines.items() if count > 300} == {}
