"""Features from files to bare passes over batches that are ready in memory; and how often files are decoded.

``ttr.features.extract.extract`` reads, decodes, resizes, runs the model and keeps what it found. A machine
with one core decodes and computes in turn, and cannot reach the bare model. The predecessor's way: file by
file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

import ttr
from tests.benchmarks import models
from tests.benchmarks.cases.forward import PREDECESSOR, item_by_item
from tests.benchmarks.made_files import made_set
from tests.benchmarks.raced import Against, rows
from tests.benchmarks.results import Row, Tabled
from tests.benchmarks.settings import Settings, torch_dtype
from ttr.datasets.base import Dataset
from ttr.features.extract import extract
from ttr.registers.arms import arms
from ttr.run import Run


def files(settings: Settings) -> Iterator[Row]:
    """Yield the throughput of features to that of bare passes, and the decodings of a file for two arms."""
    batch, dtype, fresh = settings.batches[-1], settings.dtypes[0], count()
    backbone = ttr.load(settings.backbone, device=settings.device, dtype=torch_dtype(dtype))
    both = arms(("plain", "ttr"), backbone, ttr.RegisterNeurons.from_pairs([(1, 7), (2, 70)]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = made_set(folder, settings.images[0])
        ready = torch.stack([backbone.preprocess(dataset.open(item)) for item in dataset.items])

        def bare() -> list[Tensor]:
            call = models.forward(backbone)
            return [call(part.to(backbone.device, backbone.dtype)) for part in ready.split(batch)]

        def features(number: int = 1, data: Dataset = dataset) -> object:
            run = Run(cache=folder / f"cache{next(fresh)}", batch_size=batch)
            return extract(backbone, data, both[:number], run)

        def file_by_file() -> list[list[Tensor]]:
            opened = (backbone.preprocess(dataset.open(item))[None] for item in dataset.items)
            return [item_by_item(backbone.embed, image) for image in opened]

        tasks = {"bare": bare, "features from files": features, PREDECESSOR: file_by_file}
        asked = [Against("features from files", "bare", 0.95), Against(PREDECESSOR, "bare")]
        common = {"model": backbone.name, "dtype": dtype, "pixels": ready.shape[-1], "batch": batch}
        yield from rows(
            settings,
            tasks,
            asked,
            settings.host_clock,
            case="files",
            of="throughput",
            images=len(ready),
            **common,
        )
        yield decoded(dataset, features)


def decoded(dataset: Dataset, features) -> Tabled:
    """Return how often each file is decoded when two arms want it."""
    opened: list[str] = []
    own = dataset.decode
    watched = replace(dataset, decode=lambda item, content: opened.append(item.name) or own(item, content))
    features(2, watched)
    title = "Files decoded for two arms; the target is 1 a file"
    return Tabled(
        case="files", title=title, columns=("decoded a file",), rows=((len(opened) / len(dataset.items),),)
    )
