"""A head is trained once on the same features, and anew on any other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ttr.evaluate.heads import LinearHead
from ttr.evaluate.probe import Labelled
from ttr.features import trained as module
from ttr.features.trained import trained

CLASSES = ("a", "b")


def some(seed: int) -> Labelled:
    random = np.random.default_rng(seed)
    return Labelled(random.standard_normal((8, 3)).astype(np.float32), np.array([0, 1] * 4))


@pytest.fixture
def calls(monkeypatch):
    found = []

    def train(train, val, classes, *, seed):
        found.append(seed)
        return LinearHead(torch.full((2, 3), float(len(found))), torch.zeros(2), classes)

    monkeypatch.setattr(module, "HEADS", {"linear": train, "logistic": train})
    return found


def test_it_is_trained_once(tmp_path, calls):
    first = trained(tmp_path, "linear", some(0), some(1), CLASSES, 5)
    again = trained(tmp_path, "linear", some(0), some(1), CLASSES, 5)
    assert calls == [5]
    assert torch.equal(first.weight, again.weight)
    assert again.classes == CLASSES


@pytest.mark.parametrize("what", ["head", "train", "val", "labels", "classes", "seed"])
def test_another_input_trains_anew(tmp_path, calls, what):
    given = {"head": "linear", "train": some(0), "val": some(1), "classes": CLASSES, "seed": 5}
    trained(tmp_path, **given)
    labels = replace(given["train"], y=1 - given["train"].y)
    other = {
        "head": "logistic",
        "train": some(2),
        "val": some(2),
        "labels": labels,
        "classes": ("a", "c"),
        "seed": 6,
    }
    trained(tmp_path, **{**given, "train" if what == "labels" else what: other[what]})
    assert len(calls) == 2


def test_a_damaged_file_is_trained_anew(tmp_path, calls):
    trained(tmp_path, "linear", some(0), some(1), CLASSES, 5)
    (file,) = (tmp_path / "heads").iterdir()
    file.write_bytes(file.read_bytes()[:40])
    trained(tmp_path, "linear", some(0), some(1), CLASSES, 5)
    assert len(calls) == 2
