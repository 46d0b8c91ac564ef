"""Linear heads beside the features that they were trained on: trained once, never out of date.

A file is sealed as the head of those features; one that is damaged or misplaced is trained anew.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from ttr.digests import sha256_of
from ttr.errors import ModelError
from ttr.evaluate.heads import LinearHead
from ttr.evaluate.probe import HEADS, Labelled

VERSIONS = tuple(metadata.version(name) for name in ("torch", "scikit-learn", "numpy"))


def trained(
    cache: Path, head: str, train: Labelled, val: Labelled, classes: tuple[str, ...], seed: int
) -> LinearHead:
    """Return a head, from the cache if it was trained on these very features before.

    Raises:
        OutputError: the cache cannot be written.
    """
    digest = sha256_of([head, seed, classes, *VERSIONS], (train.x, train.y, val.x, val.y), 24)
    path, place = cache / "heads" / f"{digest}.safetensors", f"heads/{digest}"
    try:
        return LinearHead.load(path, place=place)
    except ModelError:
        model = HEADS[head](train, val, classes, seed=seed)
        model.save(path, place)
        return model
