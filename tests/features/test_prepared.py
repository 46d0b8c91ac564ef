"""Neurons and attention bias of a benchmark: those of the sampled images, found once, never stale."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import ttr
from ttr.datasets.phantom_set import phantom_set
from ttr.datasets.registry import sampled_images
from ttr.errors import ImageError
from ttr.features import prepared
from ttr.features.prepared import calibrated, found_neurons


@pytest.fixture(scope="module")
def dataset():
    return phantom_set(counts={"train": 24, "val": 6, "test": 6})


def test_both_are_those_of_the_sample_and_are_run_once(phantom, dataset, tmp_path, monkeypatch):
    sample = [*sampled_images(dataset, 8, seed=3)]
    neurons = found_neurons(phantom, dataset, tmp_path, images=8, seed=3)
    assert neurons.pairs == ttr.detect(phantom, sample).pairs
    bias = calibrated(phantom, neurons, dataset, tmp_path, images=8, seed=3)
    assert torch.equal(bias.keys, ttr.calibrate_bias(phantom, neurons, sample).keys)
    monkeypatch.setattr(prepared, "detect", None)
    monkeypatch.setattr(prepared, "calibrate_bias", None)
    again = found_neurons(phantom, dataset, tmp_path, images=8, seed=3)
    assert (again.pairs, again.message, again.provenance) == (
        neurons.pairs,
        neurons.message,
        neurons.provenance,
    )
    assert torch.equal(calibrated(phantom, neurons, dataset, tmp_path, images=8, seed=3).values, bias.values)


@pytest.mark.parametrize("what", ["images", "settings", "sample", "weights"])
def test_what_decides_them_is_never_served_from_the_cache(phantom, dataset, tmp_path, monkeypatch, what):
    ran = []
    monkeypatch.setattr(
        prepared, "detect", lambda *a, **k: ran.append(k) or ttr.RegisterNeurons.from_pairs([(0, 1)])
    )
    found_neurons(phantom, dataset, tmp_path, images=8)
    found_neurons(phantom, dataset, tmp_path, images=8)
    assert len(ran) == 1
    backbone, options = phantom, {"images": 8}
    if what == "images":
        read = dataset.read
        dataset = replace(dataset, read=lambda item: read(item) + b" changed")
    elif what == "settings":
        options["top_k"] = 3
    elif what == "sample":
        options["seed"] = 1
    else:
        backbone = ttr.load("phantom-reg4")
    found_neurons(backbone, dataset, tmp_path, **options)
    assert len(ran) == 2


def test_a_bad_image_is_named_or_left_out(phantom, dataset, tmp_path):
    bad = dataset.select("train")[2]

    def decode(item, content):
        if item == bad:
            raise ImageError(f"{item.name} is damaged")
        return dataset.decode(item, content)

    broken = replace(dataset, decode=decode)
    with pytest.raises(ImageError, match=f"{bad.name} is damaged"):
        found_neurons(phantom, broken, tmp_path, images=24)
    without = found_neurons(phantom, broken, tmp_path, images=24, on_error="skip")
    assert "23" in without.message
