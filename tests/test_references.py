"""Where a docstring refers to a module, a function or a value, there is one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.tools.structure import modules

KNOWN = modules()


def defined(path: Path) -> Iterator[str]:
    """Yield the names of a module, those of its classes' members behind a dot."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
            for member in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(member, ast.FunctionDef):
                    yield f"{node.name}.{member.name}"
                elif isinstance(member, ast.AnnAssign):
                    yield f"{node.name}.{ast.unparse(member.target)}"
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield from (part.id for part in ast.walk(target) if isinstance(part, ast.Name))


def leads_somewhere(reference: str, home: str, names: dict[str, set[str]]) -> bool:
    if not reference.startswith("ttr"):
        return any(f".{name}".endswith(f".{reference}") for name in names[home])
    parts = reference.split(".")
    places = (".".join(parts[:cut]) for cut in range(len(parts), 0, -1))
    module = next(place for place in places if place in KNOWN)
    inside = reference[len(module) + 1 :]
    return not inside or inside in names[module] or module == "ttr"


def test_every_reference_leads_somewhere():
    names = {module: set(defined(path)) for module, path in KNOWN.items()}
    found = [
        (module, reference)
        for module, path in KNOWN.items()
        for reference in re.findall(r":(?:mod|func|class|data|meth|attr):`~?([\w.]+)`", path.read_text())
    ]
    assert len(found) > 100
    assert [each for each in found if not leads_somewhere(each[1], each[0], names)] == []
    assert not leads_somewhere("ttr.tokens.nothing", "ttr.tokens", names)


def test_every_path_that_contributors_are_sent_to_exists():
    root = Path(__file__).parent.parent
    text = (root / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"`((?:ttr|apps|datasets|tests|docs)/[\w./]*)`", text)
    assert len(paths) > 15
    assert [path for path in paths if not (root / path).exists()] == []
