"""Values that people give, checked once and refused by name."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any

from ttr.errors import OptionError


def integer(name: str, value: Any, least: int) -> int:
    """Return a whole number of any kind (NumPy's too) as int, or raise OptionError."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise OptionError(f"{name}={value!r}; needed an integer, at least {least}")
    return int(value)


def integers(name: str, values: Any, least: int | None = None) -> tuple[int, ...]:
    """Return whole numbers, one or more, each at least ``least``, or raise OptionError."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise OptionError(f"{name}={values!r}; needed a list of integers")
    given = tuple(values)
    if not given:
        raise OptionError(f"the list of {name} is empty; give at least one number")
    for value in given:
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise OptionError(f"{name}={value!r}; needed integers")
        if least is not None and value < least:
            raise OptionError(f"{name}={value}; needed {least} or more")
    return tuple(map(int, given))


def names(what: str, given: Any, known: Iterable[str]) -> tuple[str, ...]:
    """Return names, one or more, all of them known ones and each once, or raise OptionError."""
    known = tuple(known)
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise OptionError(f"{what}={given!r}; needed a list of {', '.join(known)}")
    found = tuple(given)
    if not found or any(name not in known for name in found) or len(set(found)) != len(found):
        said = ", ".join(map(str, found)) or "none"
        raise OptionError(f"{what} {said}; needed one or more of {', '.join(known)}, each once")
    return found
