"""Linear heads beside the features that they were trained on: trained once, never out of date.

A file is sealed as the head of those features; one that is damaged or misplaced is trained anew. Of several
processes the first trains, and the others wait for what it keeps.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np

from ttr.digests import sha256_of
from ttr.errors import ModelError
from ttr.evaluate.heads import LinearHead
from ttr.evaluate.probe import HEADS, Labelled
from ttr.evaluate.segmentation import train_patch_probe
from ttr.features.sharing import arrive
from ttr.run import Run

VERSIONS = tuple(metadata.version(name) for name in ("torch", "scikit-learn", "numpy"))


def trained(
    cache: Path, head: str, train: Labelled, val: Labelled, classes: tuple[str, ...], seed: int
) -> LinearHead:
    """Return a head, from the cache if it was trained on these very features before.

    Raises:
        OutputError: the cache cannot be written.
    """
    digest = sha256_of([head, seed, classes, *VERSIONS], (train.x, train.y, val.x, val.y), 24)
    return _kept(cache, digest) or _keep(cache, digest, HEADS[head](train, val, classes, seed=seed))


def trained_on_patches(x: np.ndarray, y: np.ndarray, classes: tuple[str, ...], run: Run) -> LinearHead:
    """Return a patch probe, as :func:`ttr.evaluate.segmentation.train_patch_probe` fits it.

    Of several processes all have the same bits, on whatever machine each is.

    Raises:
        OptionError: as :func:`ttr.evaluate.segmentation.train_patch_probe`.
        OutputError: the cache cannot be written, or the first process keeps none.
    """
    digest = sha256_of(["patches", classes, *VERSIONS], (x, y), 24)
    if not run.rank.index:
        return _kept(run.shelves, digest) or _keep(run.shelves, digest, train_patch_probe(x, y, classes))
    found: list[LinearHead] = []

    def missing() -> int:
        found.extend(filter(None, [_kept(run.shelves, digest)]))
        return int(not found)

    arrive(missing, "patch probe of the first process", run.shelves)
    return found[0]


def _place(digest: str) -> str:
    return f"heads/{digest}"


def _kept(cache: Path, digest: str) -> LinearHead | None:
    try:
        return LinearHead.load(cache / f"{_place(digest)}.safetensors", place=_place(digest))
    except ModelError:
        return None


def _keep(cache: Path, digest: str, head: LinearHead) -> LinearHead:
    head.save(cache / f"{_place(digest)}.safetensors", _place(digest))
    return head
