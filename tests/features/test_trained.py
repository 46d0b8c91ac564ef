"""A head is trained once on the same features, and anew on any other."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
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


@pytest.mark.parametrize("harm", ["cut", "a bit", "another's", "classes", "earlier version", "deep", "empty"])
def test_what_is_not_as_it_was_sealed_is_trained_anew(tmp_path, calls, harm):
    first = trained(tmp_path, "linear", some(0), some(1), CLASSES, 5)
    (file,) = (tmp_path / "heads").iterdir()
    trained(tmp_path, "linear", some(0), some(1), CLASSES, 6)
    (other,) = set((tmp_path / "heads").iterdir()) - {file}
    whole = file.read_bytes()
    bare = safetensors.numpy.load(whole)
    changed = {
        "cut": whole[:40],
        "a bit": whole[:-1] + bytes([whole[-1] ^ 0x40]),
        "another's": other.read_bytes(),
        "classes": whole.replace(b'[\\"a\\", \\"b\\"]', b'[\\"b\\", \\"a\\"]'),
        "earlier version": safetensors.numpy.save(
            bare, metadata={"head": json.dumps({"schema": "ttr.linear-head/1", "classes": CLASSES})}
        ),
        "deep": safetensors.numpy.save(bare, metadata={"head": "[" * 100_000}),
        "empty": b"",
    }[harm]
    assert changed != whole
    file.write_bytes(changed)
    again = trained(tmp_path, "linear", some(0), some(1), CLASSES, 5)
    assert calls == [5, 6, 5]
    assert again.classes == first.classes
    assert trained(tmp_path, "linear", some(0), some(1), CLASSES, 5).weight.equal(again.weight)
    assert len(calls) == 3
