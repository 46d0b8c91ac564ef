"""Batches decoded ahead in processes: in order, bad items apart, refusals as they were raised."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time

import pytest
import torch
from PIL import Image

import ttr
from ttr.errors import ImageError, ModelError, TTRError
from ttr.forward.ahead import decoded_ahead

CPU = torch.device("cpu")


def read(item: int) -> torch.Tensor:
    if item < 0:
        raise ImageError(f"{item} is damaged")
    if item == 98:
        raise ModelError("no preprocessing")
    if item == 97:
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.full((1, 2, 2 if item < 99 else 3), float(item))


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_come_in_the_order_asked_for_from_other_processes(workers):
    asked = [[3, 4], [5], [6, -7, 8], [-1], [2]]
    found = list(decoded_ahead(iter(asked), read, workers, CPU))
    assert [batch.images.flatten(1)[:, 0].tolist() if batch.images.numel() else [] for batch in found] == [
        *([3, 4], [5], [6, 0, 8], [], [2])
    ]
    assert [batch.errors for batch in found] == [*({}, {}, {1: "-7 is damaged"}, {0: "-1 is damaged"}, {})]


@pytest.mark.parametrize(
    ("asked", "kind", "complaint"),
    [
        ([98], ModelError, "^no preprocessing$"),
        ([1, 99], ModelError, "needed the same size and type"),
        ([97], TTRError, "killed from outside.*fewer --workers"),
    ],
)
def test_what_is_no_bad_image_ends_it_without_a_workers_traceback(asked, kind, complaint):
    with pytest.raises(kind, match=complaint):
        list(decoded_ahead([[1], asked], read, 1, CPU))


def test_what_cannot_be_sent_to_a_new_process_is_refused_where_a_process_starts_from_nothing():
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        with pytest.raises(ModelError, match="cannot be sent to another process.*pickled"):
            decoded_ahead([[1]], lambda item: read(item), 1, CPU)
    finally:
        multiprocessing.set_start_method(before, force=True)


@pytest.mark.parametrize("name", ["phantom", "phantom-clip", "timm:vit_tiny_patch16_224"])
def test_a_preprocessing_can_be_sent_without_its_model(name):
    backbone = ttr.load(name)
    sent = pickle.dumps(backbone.preprocess_alone)
    assert len(sent) < 10_000
    image = Image.new("RGB", (50, 40), (10, 200, 30))
    assert torch.equal(pickle.loads(sent)(image), backbone.preprocess(image))


def test_only_a_few_batches_are_asked_for_ahead():
    asked: list[int] = []

    def requests():
        for number in range(100):
            asked.append(number)
            yield [number % 50]

    batches = decoded_ahead(requests(), read, 2, CPU)
    for _ in range(3):
        next(batches)
    assert len(asked) <= 3 + 2 * 2


def test_the_callers_random_numbers_are_left_alone_and_processes_end_with_the_last_batch():
    before, others = torch.get_rng_state(), _children()
    batches = decoded_ahead([[1], [2]], read, 1, CPU)
    next(batches)
    children = _children() - others
    assert children
    batches.close()
    deadline = time.monotonic() + 60
    while children & _children() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not children & _children()
    assert torch.equal(torch.get_rng_state(), before)


def _children() -> set[int]:
    return {child.pid for child in multiprocessing.active_children()}
