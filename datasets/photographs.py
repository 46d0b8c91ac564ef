"""Photographs that installed packages ship, each with its licence: real images without a download.

Nothing of these packages is imported; a package that is not installed has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ttr.datasets.bundled import sample_paths


@dataclass(frozen=True)
class Photograph:
    """One photograph: its name, the package and the place in it, and its licence as the package states it."""

    name: str
    package: str
    file: str
    licence: str


_SKIMAGE = {
    "astronaut": ("png", "public domain"),
    "brick": ("png", "CC0"),
    "camera": ("png", "CC0"),
    "cell": ("png", "CC0"),
    "chelsea": ("png", "CC0"),
    "clock_motion": ("png", "public domain"),
    "coffee": ("png", "CC0"),
    "coins": ("png", "no known restrictions"),
    "grass": ("png", "CC0"),
    "gravel": ("png", "CC0"),
    "horse": ("png", "CC0"),
    "hubble_deep_field": ("jpg", "public domain"),
    "ihc": ("png", "no known restrictions"),
    "rocket": ("jpg", "public domain"),
}
PHOTOGRAPHS = (
    *(Photograph(name, "skimage", f"data/{name}.{end}", what) for name, (end, what) in _SKIMAGE.items()),
    Photograph("china", "sklearn", "datasets/images/china.jpg", "CC BY 2.0"),
    Photograph("flower", "sklearn", "datasets/images/flower.jpg", "CC BY 2.0"),
    Photograph("grace_hopper", "matplotlib", "mpl-data/sample_data/grace_hopper.jpg", "public domain"),
)


def photograph_paths() -> dict[str, Path]:
    """Return {name: file} of the bundled samples, and of the photographs that installed packages ship."""
    found = {}
    for photograph in PHOTOGRAPHS:
        spec = find_spec(photograph.package)
        if spec is not None and spec.origin:
            path = Path(spec.origin).parent / photograph.file
            if path.is_file():
                found[photograph.name] = path
    return {**sample_paths(), **found}
