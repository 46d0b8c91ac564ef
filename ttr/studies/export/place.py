"""Whether a model can be exported to a file at all, known before anything heavy is imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ttr.errors import OptionError
from ttr.wording import install

#: Of the formats, each also the suffix of its files.
NAMES = ("onnx", "pt2")
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def check_place(out: Path, format: str) -> None:
    """Raise OptionError for no such format, a file of another suffix, or packages that are missing."""
    if format not in NAMES:
        raise OptionError(f"format={format!r}; needed one of {', '.join(map(repr, NAMES))}")
    if out.suffix != f".{format}":
        raise OptionError(f"out={str(out)!r}; a file of format {format} needs a name ending in .{format}")
    if missing := missing_packages(format):
        raise OptionError(
            f"format onnx needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not "
            f"installed; run: {install('onnx')}, or choose format pt2"
        )


def missing_packages(format: str) -> list[str]:
    """Return the packages that a format needs and this environment lacks."""
    return [name for name in ONNX_PACKAGES if format == "onnx" and not importlib.util.find_spec(name)]
