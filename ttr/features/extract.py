"""Images x arms -> features: each image is read and decoded once, and every arm looks at it.

Images come in runs that are read ahead, and parts go to the cache as they are done
(:mod:`ttr.features.chunks`). What is kept of an image are vectors for linear heads:

    embedding       Backbone.embed: the model's own feature, which Backbone.pooling names
    cls             CLS after the final norm
    patches         mean of the patch tokens after the final norm
    registers       mean of the trained registers there, where the model has some
    test_time       mean of the test-time registers there, where the arm has some

Test-time registers start equal, are edited equally and have no position, so all R of an image are equal and
their mean is any one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.datasets.registry import Dataset, Item
from ttr.errors import ImageError
from ttr.features.chunks import Chunk, Source
from ttr.features.collect import collect
from ttr.features.shelf import Part, Shelf, cache_key
from ttr.forward.preprocessing import Preprocessing
from ttr.registers.arms import Arm
from ttr.run import Run


@dataclass(frozen=True)
class Features:
    """The features of a set's items under one arm.

    Attributes:
        arm: the treatment.
        items: the readable items, in the order that was asked for.
        arrays: {feature: float32 [N, D]}, one row an item.
        skipped: {name: reason} of the unreadable ones.
        key: what decided them, see :func:`ttr.features.shelf.cache_key`.
        contents: {name: SHA-256 of what decides its pixels} of the readable items.
    """

    arm: Arm
    items: tuple[Item, ...] = field(repr=False)
    arrays: dict[str, np.ndarray] = field(repr=False)
    skipped: dict[str, str]
    key: dict[str, Any] = field(repr=False)
    contents: dict[str, str] = field(repr=False)


def extract(
    backbone: Backbone,
    dataset: Dataset,
    arms: Sequence[Arm],
    run: Run,
    *,
    items: Sequence[Item] | None = None,
    preprocessing: Preprocessing | None = None,
) -> list[Features]:
    """Return the features of a set's items under each arm, from the cache where they are there.

    Memory holds a few runs of 64 images, whatever the size of the set, and the vectors that are returned.

    Args:
        backbone: the bare backbone.
        dataset: the labelled set.
        arms: the treatments.
        run: how it runs; its cache is where features are looked up and kept.
        items: those to look at, in order; None: all.
        preprocessing: None: the backbone's own.

    Raises:
        ImageError: a bad image, with ``on_error="raise"``, or not a single readable one.
        ModelError: the preprocessing makes images of several sizes.
        OptionError: the backbone is not where the run says.
        OutputError: the cache cannot be written.
    """
    run.check(backbone)
    items = tuple(dataset.items if items is None else items)
    steps = preprocessing or Preprocessing(backbone)
    keys = [cache_key(backbone, arm, steps, run.computes_on(backbone)) for arm in arms]
    contents: dict[str, str] = {}

    def content_hash(item: Item) -> str:
        contents[item.name] = dataset.content_hash(item)
        return contents[item.name]

    def compute(chunk: Chunk, missing: list[int]) -> list[Part]:
        return [_compute(backbone, arms[index], chunk, run.batch_size) for index in missing]

    found = collect(
        items,
        Source(content_hash, lambda item: steps(dataset.open(item))),
        [Shelf.of(run.shelves, key) for key in keys],
        compute,
        backbone,
        run,
        label="features",
    )
    return [
        _features(arm, items, part, key, contents) for arm, part, key in zip(arms, found, keys, strict=True)
    ]


def _compute(backbone: Backbone, arm: Arm, chunk: Chunk, batch_size: int) -> Part:
    rows: list[dict[str, Tensor]] = []
    with arm.applied(backbone):
        for images in chunk.images.split(batch_size) if chunk.readable else ():
            rows.append(vectors(backbone, images))
    return chunk.part(
        {name: torch.cat([row[name] for row in rows]).numpy() for name in (rows[0] if rows else ())}
    )


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


def _features(
    arm: Arm, items: tuple[Item, ...], found: Part, key: dict[str, Any], contents: dict[str, str]
) -> Features:
    if not found.names:
        raise ImageError("not one image could be read; see: ttr data check")
    readable = set(found.names)
    return Features(
        arm=arm,
        items=tuple(item for item in items if item.name in readable),
        arrays=found.arrays,
        skipped=found.skipped,
        key=key,
        contents={name: contents[name] for name in found.names},
    )
