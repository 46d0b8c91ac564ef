"""Linear heads beside the features that they were trained on: trained once, never out of date."""

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
    path = cache / "heads" / f"{digest}.safetensors"
    try:
        return LinearHead.load(path)
    except ModelError:
        model = HEADS[head](train, val, classes, seed=seed)
        model.save(path)
        return model
