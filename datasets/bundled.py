"""The two bundled sample images: one fundus photograph, one chest radiograph (see samples/ATTRIBUTION.md)."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "samples"


def sample_paths() -> dict[str, Path]:
    """Return {name: path} of the bundled samples."""
    return {name: FOLDER / f"{name}.png" for name in ("fundus", "chest")}
