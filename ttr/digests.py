"""SHA-256 of what decides a result, in hexadecimal: of bytes and text, or of JSON values with arrays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from itertools import chain
from typing import Any


def sha256(parts: Iterable[str | bytes | memoryview], digits: int = 64) -> str:
    """Return the first ``digits`` digits of the SHA-256 of parts one behind the other, text as UTF-8."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()[:digits]


def sha256_of(values: Any, arrays: Iterable[Any] = (), digits: int = 64) -> str:
    """Return the SHA-256 of JSON values, whatever the order of their keys, and of NumPy arrays in order.

    Of an array of any shape, its type, shape and content count.
    """
    described = (part for x in arrays for part in (f"|{x.dtype}{x.shape}|", x.tobytes()))
    return sha256(chain([json.dumps(values, sort_keys=True)], described), digits)
