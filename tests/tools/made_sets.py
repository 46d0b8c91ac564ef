"""Small files of the kinds that published sets are made of."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def draw(path: Path, shade: int = 0, size: tuple[int, int] = (8, 6)) -> Path:
    """Write a picture whose pixels are drawn from its shade."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(shade).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def outline(path: Path, box: tuple[int, int, int, int], size: tuple[int, int] = (8, 6)) -> Path:
    """Write a mask that is white between left, top, right and bottom."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.new("L", size)
    mask.paste(255, box)
    mask.save(path)
    return path


def write_rows(path: Path, header: str, rows: Iterable[Iterable[object]]) -> Path:
    """Write a table of commas."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def packed_runs(mask: np.ndarray) -> dict[str, object]:
    """Return a mask [H, W] as run lengths in text, as COCO's files hold it."""
    flat = np.concatenate([[False], mask.ravel(order="F"), [not mask.ravel(order="F")[-1]]])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(np.concatenate([[0], ends])).tolist()
    text = ""
    for place, run in enumerate(runs):
        number = run - runs[place - 2] if place > 2 else run
        while True:
            group, number = number & 31, number >> 5
            last = number == (-1 if group & 16 else 0)
            text += chr(48 + group + (0 if last else 32))
            if last:
                break
    return {"size": list(mask.shape), "counts": text}
