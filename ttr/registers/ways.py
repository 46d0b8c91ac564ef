"""Ways in which a detection ranks neurons: light to import, so that a typo is told at once."""

from __future__ import annotations

from typing import Any, Literal, get_args

from ttr.errors import OptionError

By = Literal["norms", "gradient", "clustering"]
WAYS: tuple[By, ...] = get_args(By)


def check_way(by: Any) -> By:
    """Return the way, or raise OptionError."""
    if by not in WAYS:
        raise OptionError(f"by={by!r}; needed one of {', '.join(map(repr, WAYS))}")
    found: By = by
    return found
