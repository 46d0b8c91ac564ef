"""Images x arms -> features: each image is read and decoded once, and every arm looks at it.

Reading and decoding run ahead in threads while the model works; the parts go to the cache
(:mod:`ttr.feature_cache`) as they are done. What is kept of an image are vectors for linear heads:

    embedding       Backbone.embed: CLIP's projected embedding, else CLS after the final norm
    cls             CLS after the final norm
    patches         mean of the patch tokens after the final norm
    registers       mean of the trained registers there, where the model has some
    test_time       mean of the test-time registers there, where the arm has some

Test-time registers start equal, are edited equally and have no position, so all R of an image are equal and
their mean is any one of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ttr.arms import Arm
from ttr.backbones.base import Backbone
from ttr.batches import check_batch_size
from ttr.datasets.registry import Dataset, Item
from ttr.errors import ImageError, OptionError
from ttr.feature_cache import Part, Shelf, cache_key, digest_of
from ttr.preprocessing import Preprocessing
from ttr.progress import progress_bar

PART = 64


@dataclass(frozen=True)
class Features:
    """The features of a set's items under one arm.

    Attributes:
        arm: the treatment.
        items: the readable items, in the order that was asked for.
        arrays: {feature: float32 [N, D]}, one row an item.
        skipped: {name: reason} of the unreadable ones.
        key: what decided them, see :func:`ttr.feature_cache.cache_key`.
    """

    arm: Arm
    items: tuple[Item, ...] = field(repr=False)
    arrays: dict[str, np.ndarray] = field(repr=False)
    skipped: dict[str, str]
    key: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class _Run:
    """A run of images as it comes out of a reading thread; ``inputs`` only of what some arm still needs."""

    index: int
    items: tuple[Item, ...]
    digest: str
    needed: bool
    inputs: list[Tensor | ImageError]


def extract(
    backbone: Backbone,
    dataset: Dataset,
    arms: Sequence[Arm],
    cache: Path,
    *,
    items: Sequence[Item] | None = None,
    preprocessing: Preprocessing | None = None,
    batch_size: int = 32,
    on_error: str = "raise",
    workers: int = 2,
    progress: bool = False,
) -> list[Features]:
    """Return the features of a set's items under each arm, from the cache where they are there.

    Memory holds a few runs of 64 images, whatever the size of the set, and the vectors that are returned.

    Args:
        backbone: the bare backbone.
        dataset: the labelled set.
        arms: the treatments.
        cache: folder of the feature cache.
        items: those to look at, in order; None: all.
        preprocessing: None: the backbone's own.
        batch_size: images a pass.
        on_error: ``"raise"``: a bad image ends the run, by name; ``"skip"``: it is recorded and left out.
        workers: threads that read and decode ahead.
        progress: show a progress bar with an estimate.

    Raises:
        ImageError: a bad image, with ``on_error="raise"``, or not a single readable one.
        OptionError: a value is outside its range.
        OutputError: the cache cannot be written.
    """
    check_batch_size(batch_size)
    check_on_error(on_error)
    if workers < 1:
        raise OptionError(f"workers={workers}; needed at least 1")
    items = tuple(dataset.items if items is None else items)
    steps = preprocessing or Preprocessing(backbone)
    keys = [cache_key(backbone, arm, steps) for arm in arms]
    shelves = [Shelf.of(cache, key) for key in keys]
    found: list[list[Part]] = [[] for _ in arms]
    with progress_bar("features", len(items), show=progress) as advance:
        for run in _read_ahead(dataset, items, shelves, steps, workers):
            for arm, shelf, parts in zip(arms, shelves, found, strict=True):
                path = shelf.path(run.index, run.digest)
                part = shelf.read(path)
                if part is None:
                    part = _compute(backbone, arm, run, batch_size)
                    shelf.write(path, part)
                if part.skipped and on_error == "raise":
                    name, reason = next(iter(part.skipped.items()))
                    raise ImageError(f"{reason} ({name}); leave bad images out with --on-error skip")
                parts.append(part)
            advance(len(run.items))
    return [_joined(arm, items, parts, key) for arm, parts, key in zip(arms, found, keys, strict=True)]


def check_on_error(on_error: str) -> None:
    """Raise OptionError unless ``on_error`` is ``"raise"`` or ``"skip"``."""
    if on_error not in ("raise", "skip"):
        raise OptionError(f"on_error={on_error!r}; needed 'raise' or 'skip'")


def _read_ahead(
    dataset: Dataset, items: tuple[Item, ...], shelves: list[Shelf], steps: Preprocessing, workers: int
) -> Iterator[_Run]:
    runs = enumerate(items[start : start + PART] for start in range(0, len(items), PART))
    pending: deque[Future[_Run]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for index, run in runs:
                pending.append(pool.submit(_read, index, run, dataset, shelves, steps))
                if len(pending) > workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _read(
    index: int, items: tuple[Item, ...], dataset: Dataset, shelves: list[Shelf], steps: Preprocessing
) -> _Run:
    digest = digest_of([content_hash(dataset, item) for item in items])
    needed = any(shelf.read(shelf.path(index, digest)) is None for shelf in shelves)
    inputs = [_input(dataset, item, steps) for item in items] if needed else []
    return _Run(index, items, digest, needed, inputs)


def content_hash(dataset: Dataset, item: Item) -> str:
    """Return the hash of an item's bytes, or, where they cannot be read, a text that no bytes have."""
    try:
        return dataset.content_hash(item)
    except ImageError:
        return f"unreadable {item.name}"


def _input(dataset: Dataset, item: Item, steps: Preprocessing) -> Tensor | ImageError:
    try:
        return steps(dataset.open(item))
    except ImageError as error:
        return error


def _compute(backbone: Backbone, arm: Arm, run: _Run, batch_size: int) -> Part:
    readable = [(item, x) for item, x in zip(run.items, run.inputs, strict=True) if isinstance(x, Tensor)]
    skipped = {
        item.name: str(x) for item, x in zip(run.items, run.inputs, strict=True) if isinstance(x, ImageError)
    }
    rows: list[dict[str, Tensor]] = []
    with arm.applied(backbone):
        for start in range(0, len(readable), batch_size):
            batch = torch.stack([x for _, x in readable[start : start + batch_size]])
            rows.append(vectors(backbone, batch))
    arrays = {name: torch.cat([row[name] for row in rows]).numpy() for name in (rows[0] if rows else ())}
    return Part(arrays, tuple(item.name for item, _ in readable), skipped)


def vectors(backbone: Backbone, images: Tensor) -> dict[str, Tensor]:
    """Return the features of a batch [B, 3, H, W] by name, float32 [B, D] each; an installed wrap counts."""
    embedding, tokens = backbone.embed_with_tokens(images)
    found = {"embedding": embedding, "patches": tokens.patches.float().mean(dim=1)}
    if tokens.cls is not None:
        found["cls"] = tokens.cls
    for name, registers in (("registers", tokens.registers), ("test_time", tokens.test_time)):
        if registers.shape[1]:
            found[name] = registers.float().mean(dim=1)
    return {name: value.float().cpu().contiguous() for name, value in found.items()}


def _joined(arm: Arm, items: tuple[Item, ...], parts: list[Part], key: dict[str, Any]) -> Features:
    readable = {name for part in parts for name in part.names}
    if not readable:
        raise ImageError("not one image could be read; see: ttr data check")
    names = next(part.arrays for part in parts if part.names)
    return Features(
        arm=arm,
        items=tuple(item for item in items if item.name in readable),
        arrays={name: np.concatenate([p.arrays[name] for p in parts if p.names]) for name in names},
        skipped={name: reason for part in parts for name, reason in part.skipped.items()},
        key=key,
    )
