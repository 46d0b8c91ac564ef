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
from ttr.features.prepared import calibrated_bias, found_neurons
from ttr.registers.detection import DetectionRule
from ttr.run import Run


@pytest.fixture(scope="module")
def dataset():
    return phantom_set(counts={"train": 24, "val": 6, "test": 6})


def test_both_are_those_of_the_sample_and_are_run_once(phantom, dataset, tmp_path, monkeypatch):
    run = Run(cache=tmp_path, batch_size=16)
    sample = sampled_images(dataset, 8, seed=3)
    neurons = found_neurons(phantom, sample, run).value
    assert neurons.pairs == ttr.detect(phantom, [*sample]).pairs
    assert neurons.provenance.image_set == "phantom, training split, 8 of 24 images, seed 3"
    bias = calibrated_bias(phantom, neurons, sample, run).value
    assert torch.equal(bias.keys, ttr.calibrate_bias(phantom, neurons, [*sample]).keys)
    monkeypatch.setattr(prepared, "detect", None)
    monkeypatch.setattr(prepared, "calibrate_bias", None)
    again = found_neurons(phantom, sample, replace(run, batch_size=4)).value
    assert (again.pairs, again.message, again.provenance) == (
        neurons.pairs,
        neurons.message,
        neurons.provenance,
    )
    assert torch.equal(calibrated_bias(phantom, neurons, sample, run).value.values, bias.values)


@pytest.mark.parametrize("what", ["images", "settings", "sample", "weights"])
def test_what_decides_them_is_never_served_from_the_cache(phantom, dataset, tmp_path, monkeypatch, what):
    ran = []
    monkeypatch.setattr(
        prepared, "detect", lambda *a, **k: ran.append(k) or ttr.RegisterNeurons.from_pairs([(0, 1)])
    )
    run = Run(cache=tmp_path)
    found_neurons(phantom, sampled_images(dataset, 8), run)
    found_neurons(phantom, sampled_images(dataset, 8), run, DetectionRule(outlier_layer=4))
    assert len(ran) == 1, "block 4 is the penultimate, which is the default"
    backbone, rule, seed = phantom, DetectionRule(), 42
    if what == "images":
        read = dataset.read
        dataset = replace(dataset, read=lambda item: read(item) + b" changed")
    elif what == "settings":
        rule = DetectionRule(top_k=3)
    elif what == "sample":
        seed = 1
    else:
        backbone = ttr.load("phantom-reg4")
    found_neurons(backbone, sampled_images(dataset, 8, seed=seed), run, rule)
    assert len(ran) == 2


def test_a_bad_image_is_named_or_left_out_also_where_the_answer_is_kept(phantom, dataset, tmp_path):
    bad = dataset.select("train")[2]

    def decode(item, content):
        if item == bad:
            raise ImageError(f"{item.name} is damaged")
        return dataset.decode(item, content)

    broken = sampled_images(replace(dataset, decode=decode), None)
    with pytest.raises(ImageError, match=f"{bad.name} is damaged"):
        found_neurons(phantom, broken, Run(cache=tmp_path))
    for _ in range(2):
        without = found_neurons(phantom, broken, Run(cache=tmp_path, on_error="skip"))
        assert "23" in without.value.message
        assert without.skipped == {bad.name: f"{bad.name} is damaged"}
    with pytest.raises(
        ImageError, match=f"^{bad.name} is damaged; leave bad images out with --on-error skip"
    ):
        found_neurons(phantom, broken, Run(cache=tmp_path))


def test_not_one_readable_image_is_refused_with_the_first_reason(phantom, dataset, tmp_path):
    def decode(item, content):
        raise ImageError(f"{item.name} is damaged")

    broken = sampled_images(replace(dataset, decode=decode), 5)
    with pytest.raises(ImageError, match="not one of 5 images could be read; the first: .* is damaged"):
        found_neurons(phantom, broken, Run(cache=tmp_path, on_error="skip"))
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("harm", ["a digit", "another's", "no seal", "skipped", "deep", "cut"])
def test_a_finding_that_is_not_as_it_was_sealed_is_made_anew(phantom, dataset, tmp_path, monkeypatch, harm):
    found = iter(range(100))
    monkeypatch.setattr(
        prepared, "detect", lambda *a, **k: ttr.RegisterNeurons.from_pairs([(0, 500 + next(found))])
    )
    run, samples = Run(cache=tmp_path), [sampled_images(dataset, 8, seed=seed) for seed in (1, 2)]
    assert [found_neurons(phantom, sample, run).value.pairs for sample in samples] == [[(0, 500)], [(0, 501)]]
    kept = [path for path in (tmp_path / "neurons").iterdir() if ".skipped" not in path.suffixes]
    (first,) = (path for path in kept if "500" in path.read_text())
    (second,) = (path for path in kept if "501" in path.read_text())
    beside = first.with_suffix(".skipped.json")
    if harm == "a digit":
        first.write_text(first.read_text().replace("500", "900"))
    elif harm == "another's":
        first.write_bytes(second.read_bytes())
        beside.write_bytes(second.with_suffix(".skipped.json").read_bytes())
    elif harm == "no seal":
        beside.write_text("{}")  # as earlier versions wrote it
    elif harm == "skipped":
        beside.write_text(beside.read_text().replace("{}", '{"x.png": "is damaged"}'))
    elif harm == "deep":
        beside.write_text("[" * 100_000)
    else:
        first.write_text(first.read_text()[:50])
    for _ in range(2):
        assert found_neurons(phantom, samples[0], run).value.pairs == [(0, 502)]
