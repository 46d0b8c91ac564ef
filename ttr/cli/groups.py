"""Groups of options: a command takes what belongs together as one value.

    @grouped
    def bench(*, model: ModelOptions, out: OutFolder, reading: ReadingOptions = IN_EIGHTS) -> None: ...

gives ``ttr bench`` the options ``--backbone``, ``--weights``, ..., ``--out``, ``--on-error``, ... A group
that is a parameter's default says what its options are by default there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from functools import wraps
from typing import Any, get_type_hints


class Group:
    """Base of the groups: dataclasses whose fields are options, written as a command's parameters are."""


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with each of its groups laid out as single options, in the order of the fields."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {}
    laid_out: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        if isinstance(kind, type) and issubclass(kind, Group):
            groups[name] = kind
            laid_out += _single_options(kind, parameter.default)
        else:
            laid_out.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(command)
    def call(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        command(**given)

    call.__signature__ = inspect.Signature(laid_out)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in laid_out}
    return call


def _single_options(kind: Any, group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=_default(field, group),
            annotation=hints[field.name],
        )
        for field in sorted(fields(kind), key=lambda field: field.default is not MISSING)
    ]


def _default(field: Field[Any], group: Any) -> Any:
    if group is not inspect.Parameter.empty:
        return getattr(group, field.name)
    return inspect.Parameter.empty if field.default is MISSING else field.default
