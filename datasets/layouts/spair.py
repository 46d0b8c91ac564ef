"""SPair-71k's layout: pairs of photographs whose keypoints correspond, for semantic correspondence.

It is no labelled set, so it stands beside the registry: a pair is two images, where the same parts of the
object lie in each, and the box of the target's object, by whose size a match is judged (PCK at 0.1 of its
larger side).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ttr.datasets.base import Card, Split, inside, read_text, require
from ttr.datasets.folder import draw_sample
from ttr.errors import DataError
from ttr.files import JSONError, read_json
from ttr.wording import counted

CARD = Card(
    title="SPair-71k",
    source="Min, Lee, Ponce and Cho (2019), SPair-71k: a large-scale benchmark for semantic correspondence",
    licence="photographs of PASCAL VOC and PASCAL3D+, under their terms; not redistributable here",
    classes="18 categories of objects",
    metric="PCK at 0.1 of the larger side of the target's box",
    problems="natural photographs, nothing medical; few images stand in many pairs, so pairs are no "
    "independent samples; a crop may cut keypoints off, which then do not count",
    how_to_get="Its authors' page offers it; give the folder SPair-71k as the root.",
    layout="PairAnnotation/{trn,val,test}/*.json, JPEGImages/<category>/*.jpg, and, to choose among the "
    "pairs, Layout/large/{trn,val,test}.txt",
)
FOLDERS: dict[Split, str] = {"train": "trn", "val": "val", "test": "test"}


@dataclass(frozen=True, eq=False)
class KeypointPair:
    """Two images whose keypoints correspond. Coordinates are (x, y) in pixels of the files.

    Attributes:
        name: of the pair, unique in its split.
        category: of the object.
        source: file of one image.
        target: file of the other.
        source_points: float64 [K, 2].
        target_points: where the same K parts lie in the target, float64 [K, 2].
        target_box: (left, top, right, bottom) of the target's object, float64 [4].
        drawn_as: the name that random draws know it by, where its own was taken from it.
    """

    name: str
    category: str
    source: Path
    target: Path
    source_points: np.ndarray
    target_points: np.ndarray
    target_box: np.ndarray
    drawn_as: str = ""

    @property
    def draw_name(self) -> str:
        """What random draws of it are seeded with. Never written."""
        return self.drawn_as or self.name


def spair(
    root: Path, split: Split = "test", *, limit: int | None = None, seed: int = 42, anonymous: bool = False
) -> tuple[KeypointPair, ...]:
    """Read the pairs of one split, in order of name; with ``limit``, a seeded sample of them.

    ``anonymous``: they are called ``pair 1``, ``pair 2``, ...

    Raises:
        DataError: files are missing, or an annotation is not as described.
    """
    folder, images = (
        require(root, wanted, CARD) for wanted in (f"PairAnnotation/{FOLDERS[split]}", "JPEGImages")
    )
    files = list(_files(root, folder, FOLDERS[split]))
    if not files:
        raise DataError(f"{CARD.title}: {folder} holds no pairs; needed {CARD.layout}")
    pairs = [_read(path, images) for path in draw_sample(files, limit, seed)]
    if anonymous:
        numbered = enumerate(pairs, start=1)
        pairs = [replace(pair, name=f"pair {n}", drawn_as=pair.name) for n, pair in numbered]
    return tuple(pairs)


def _files(root: Path, folder: Path, split: str) -> Iterator[Path]:
    """Yield the annotations that the layout lists, or all where there is no such list."""
    listed = root / "Layout" / "large" / f"{split}.txt"
    if not listed.exists():
        yield from sorted(folder.glob("*.json"))
        return
    for line in sorted({line.strip() for line in read_text(listed).splitlines()} - {""}):
        path = inside(folder, f"{line}.json", listed.name)
        if not path.is_file():
            raise DataError(f"{listed} names the pair {line}, but {path} is missing; unpack the set anew")
        yield path


def _read(path: Path, images: Path) -> KeypointPair:
    try:
        found = read_json(path)
    except JSONError as error:
        raise DataError(f"{path} is no JSON that can be read ({error})") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no pair; needed a JSON object")
    category = _text(found, "category", path)
    source, target = (
        inside(images, f"{category}/{_text(found, key, path)}", path.name)
        for key in ("src_imname", "trg_imname")
    )
    source_points, target_points = (_numbers(found, key, path, (-1, 2)) for key in ("src_kps", "trg_kps"))
    box = _numbers(found, "trg_bndbox", path, (4,))
    if len(source_points) != len(target_points):
        raise DataError(
            f"{path} has {counted(len(source_points), 'keypoint')} in the source and {len(target_points)} "
            "in the target; needed as many in both"
        )
    if not (box[2:] > box[:2]).all():
        raise DataError(f"{path}: trg_bndbox {box.tolist()} has no extent; needed [left, top, right, bottom]")
    return KeypointPair(path.stem, category, source, target, source_points, target_points, box)


def _text(found: dict[str, Any], key: str, path: Path) -> str:
    value = found.get(key)
    if not isinstance(value, str) or not value:
        raise DataError(f"{path}: {key} is {value!r}; needed a name")
    return value


def _numbers(found: dict[str, Any], key: str, path: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        values = np.array(found[key], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: {key} is missing or no numbers; needed {_needed(shape)}") from error
    if values.ndim != len(shape) or values.shape[-1] != shape[-1] or not np.isfinite(values).all():
        raise DataError(f"{path}: {key} has the shape {values.shape}; needed {_needed(shape)}")
    return values


def _needed(shape: tuple[int, ...]) -> str:
    return "[K, 2] finite numbers" if len(shape) == 2 else "4 finite numbers"
