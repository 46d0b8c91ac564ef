"""The house as its imports show it: which module stands in which room, and which arrows join them.

python -m tests.tools.structure          # modules in each room, and the arrows between rooms
"""

from __future__ import annotations

import ast
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import ttr

PACKAGE = Path(ttr.__file__).parent


def modules() -> dict[str, Path]:
    """Return every module of ttr by its dotted name; the linked rooms (apps, datasets) belong to it."""
    found = {}
    for folder, _, files in os.walk(PACKAGE, followlinks=True):
        for file in files:
            path = Path(folder, file)
            if path.suffix == ".py":
                parts = path.relative_to(PACKAGE).with_suffix("").parts
                found[".".join(("ttr", *(part for part in parts if part != "__init__")))] = path
    return dict(sorted(found.items()))


def arrows(known: Mapping[str, Path]) -> dict[str, set[str]]:
    """Return {module: the modules it imports}, imports inside functions and for type checking included.

    The face of the package names every room and is left out, as who imports and as what is imported.
    """
    inside = {name: path for name, path in known.items() if name != "ttr"}
    return {
        name: set(_imported(ast.parse(path.read_text()), inside)) - {name} for name, path in inside.items()
    }


def _imported(tree: ast.AST, known: Iterable[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ttr":
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                found = inside if inside in known else node.module
                if found in known:
                    yield found


def room(module: str, known: Mapping[str, Path]) -> str:
    """Return the folder that a module stands in, dotted; the ground floor is ``ttr``."""
    return module if known[module].name == "__init__.py" else module.rpartition(".")[0]


def between_rooms(graph: Mapping[str, Iterable[str]], known: Mapping[str, Path]) -> Counter[tuple[str, str]]:
    """Count the imports that lead from one room into another."""
    pairs = ((room(source, known), room(target, known)) for source in graph for target in graph[source])
    return Counter((a, b) for a, b in pairs if a != b)


def circle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Return one circle of a graph, its first node again at the end; empty where there is none."""
    done: set[str] = set()
    path: list[str] = []

    def walk(node: str) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        path.append(node)
        for target in sorted(graph.get(node, ())):
            if found := walk(target):
                return found
        path.pop()
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := walk(node))), [])


def _main() -> None:
    known = modules()
    joined = between_rooms(arrows(known), known)
    for name, count in sorted(Counter(room(module, known) for module in known).items()):
        leads_to = sorted(target for source, target in joined if source == name)
        print(f"{name:28} {count:3} modules -> {', '.join(leads_to) or 'nothing'}")
    print(f"{len(known)} modules; {len(joined)} arrows between rooms, {sum(joined.values())} imports")


if __name__ == "__main__":
    _main()
