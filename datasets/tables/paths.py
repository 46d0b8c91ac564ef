"""Paths in tables that were written on another machine, as paths below the folder of the images now."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ttr.datasets.opening import SUFFIXES
from ttr.errors import DataError

#: Suffixes that are tried for a name without one.
TRIED = (*sorted(SUFFIXES), ".dcm")
#: Rows that are looked at to find where the images lay.
LOOKED_AT = 200


def below_root(paths: Sequence[str], root: Path, where: str) -> tuple[list[str], str]:
    """Return each path below ``root``, with forward slashes, and what was taken for granted, or nothing.

    Absolute ones that lie elsewhere had a folder in common which ``root`` stands for now: the longest end of
    one of them that is a file below ``root`` says which, and all others must share it.

    Raises:
        DataError: absolute paths of which no end is a file below ``root``, or of several folders.
    """
    given = [path.replace("\\", "/") for path in paths]
    own = [f"{each.as_posix().rstrip('/')}/" for each in {root, root.absolute(), root.resolve()}]
    given = [next((path[len(each) :] for each in own if path.startswith(each)), path) for path in given]
    foreign = [path for path in given if re.match(r"([A-Za-z]:)?/", path)]
    if not foreign:
        return given, ""
    prefix = _prefix(foreign, root)
    if prefix is None:
        raise DataError(
            f"{where}: path {foreign[0]!r} is absolute, and no end of it is a file below {root}; write "
            "paths below that folder"
        )
    elsewhere = [path for path in foreign if not path.startswith(prefix)]
    if elsewhere:
        raise DataError(
            f"{where}: {len(foreign) - len(elsewhere)} paths begin with {prefix} and lie below {root}, and "
            f"{elsewhere[0]!r} begins otherwise; write paths below that folder"
        )
    said = "absolute paths of another folder are read as below that of the table"
    return [path.removeprefix(prefix) for path in given], said


def _prefix(foreign: Sequence[str], root: Path) -> str | None:
    """Return what must be cut off, the least that makes one of the paths a file below ``root``."""
    parts = [path.split("/") for path in foreign[:LOOKED_AT]]
    for cut in range(1, max(map(len, parts))):
        for each in parts:
            if cut < len(each) and _is_file(root, "/".join(each[cut:])):
                return "/".join(each[:cut]) + "/"
    return None


def _is_file(root: Path, relative: str) -> bool:
    try:
        inside = ".." not in relative.split("/")
        return inside and with_suffix(root / relative).is_file()
    except (OSError, ValueError):
        return False


def with_suffix(path: Path) -> Path:
    """Return the file that a name without a suffix means, where there is one: ``ISIC_0024306`` is a .jpg."""
    if path.suffix.lower() in TRIED or path.is_file():
        return path
    return next((found for each in TRIED if (found := path.with_name(path.name + each)).is_file()), path)
