import dataclasses
import json

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

import ttr
from tests.tools.tiny_models import scramble, tiny_vit
from ttr.datasets.registry import phantom_images
from ttr.errors import OptionError, TTRError
from ttr.forward.record import record


@pytest.fixture(scope="module")
def neurons(phantom):
    return ttr.RegisterNeurons.from_pairs(phantom.planted)


def test_numbers_are_those_of_the_model(phantom, phantom_batch, neurons):
    comparison = list(ttr.compare(phantom, neurons, phantom_batch, threshold=100))[3]
    passed = record(phantom, phantom_batch[3:4], attention=True)
    patches = passed.norms[:, 0, 1:]
    attention = passed.cls_attention[:, 0].mean(dim=1)[:, 1:]
    before = comparison.before
    assert before.max_patch_norm == pytest.approx(float(patches[-1].max()), rel=1e-5)
    assert before.outlier_patches == int((patches[-2] > 100).sum()) > 0
    assert before.max_patch_attention == pytest.approx(float(attention[-1].max()), rel=1e-4)
    assert before.register_attention == 0
    assert before.register_norm is None
    np.testing.assert_allclose(before.curves.max_patch_norm, patches.amax(1), rtol=1e-5)
    assert len(before.curves.max_patch_attention) == 6
    assert before.maps.norms.shape == before.maps.attention.shape == (7, 7)
    after = comparison.after
    with ttr.TestTimeRegisters(phantom, neurons):
        wrapped = record(phantom, phantom_batch[3:4], attention=True)
    assert after.register_norm == pytest.approx(float(wrapped.norms[-1, 0, 1]), rel=1e-5)
    share = float(wrapped.cls_attention[-1, 0, :, 1].mean())
    assert after.register_attention == pytest.approx(share, rel=1e-4)
    assert after.maps.register_attention.shape == (1,)


def test_one_yardstick_for_before_and_after(phantom, phantom_batch, neurons):
    for comparison in ttr.compare(phantom, neurons, phantom_batch[:3]):
        median = comparison.before.curves.median_patch_norm[comparison.outlier_layer]
        assert comparison.outlier_threshold >= 2 * median
        assert comparison.outlier_layer == 4


def test_the_rule_of_the_neurons_is_taken_over(phantom, phantom_batch):
    found = ttr.detect(phantom, phantom_batch[:3], threshold=90, outlier_layer=3)
    comparison = next(ttr.compare(phantom, found, phantom_batch[:1]))
    assert (comparison.outlier_threshold, comparison.outlier_layer) == (90, 3)


def test_trained_registers_count_as_registers_before_already():
    backbone = ttr.load("phantom-reg4", image_size=112)
    images = [p.image for p in phantom_images(2)]
    for comparison in ttr.compare(backbone, ttr.RegisterNeurons.from_pairs([]), images):
        assert comparison.before.register_attention > 0.6
        assert comparison.before.maps.register_norms.shape == (4,)
        assert comparison.after.maps.register_norms.shape == (5,)


def test_pixels_are_what_the_model_was_given(neurons):
    phantom, image = ttr.load("phantom"), next(phantom_images(1)).image
    comparison = next(ttr.compare(phantom, neurons, [image]))
    assert np.abs(comparison.pixels.astype(int) - np.asarray(image).astype(int)).max() <= 1


def test_images_stream_and_names_follow(neurons):
    phantom = ttr.load("phantom", image_size=64)
    drawn = []

    def images():
        for p in phantom_images(9):
            drawn.append(p.name)
            yield p.image

    found = ttr.compare(phantom, neurons, images(), names=[f"case {i}" for i in range(9)], batch_size=3)
    assert next(found).image == "case 0"
    assert len(drawn) == 3
    assert [c.image for c in found][-1] == "case 8"
    with pytest.raises(OptionError, match="got 1 name for more images"):
        list(ttr.compare(phantom, neurons, [p.image for p in phantom_images(2)], names=["one"]))


def test_the_wrap_is_off_between_batches_and_after(phantom, phantom_batch, neurons):
    bare = phantom.embed(phantom_batch)
    found = ttr.compare(phantom, neurons, phantom_batch[:3], batch_size=2)
    next(found)
    assert torch.equal(phantom.embed(phantom_batch), bare)
    found.close()
    assert torch.equal(phantom.embed(phantom_batch), bare)


def test_zero_registers_and_no_preprocessing(images):
    backbone = ttr.adapt(scramble(tiny_vit()))
    neurons = ttr.RegisterNeurons.from_pairs([(0, 1)])
    comparison = next(ttr.compare(backbone, neurons, images, num_registers=0))
    assert comparison.after.register_norm is None
    assert comparison.pixels.shape == (32, 32, 3)
    assert comparison.to_json()["after"]["curves"]["register_norm"] is None


def test_a_result_is_frozen_and_says_what_it_was_made_with(phantom, phantom_batch, neurons):
    counts = {"num_registers": np.int64(2), "batch_size": np.int64(8)}
    first, second = ttr.compare(phantom, neurons, phantom_batch[:2], threshold=80, **counts)
    json.dumps(dict(first.provenance))
    assert first.provenance is second.provenance
    assert first.provenance["backbone"]["weights_hash"] == phantom.weights_hash
    settings = {"num_registers": 2, "threshold": 80.0, "outlier_layer": 4, "batch_size": 8}
    settings["variant"] = "algorithm"
    assert first.provenance["settings"] == settings
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.image = "another"
    with pytest.raises(TypeError):
        first.provenance["ttr"] = "0"


@pytest.mark.parametrize(
    ("neurons", "options", "complaint"),
    [
        ([(99, 0)], {}, "does not exist in phantom"),
        ([], {"threshold": "high"}, "threshold='high'"),
        ([], {"outlier_layer": 6}, "outlier_layer=6"),
        ([], {"outlier_layer": "2"}, "outlier_layer='2'; needed an integer"),
        ([], {"batch_size": 0}, "batch_size=0"),
        ([], {"num_registers": -1}, "num_registers=-1"),
        ([], {"names": 5}, "names=5; needed a list"),
        ([], {"images": 5}, "got int as images"),
        ([], {"images": torch.zeros(1, 224, 224)}, r"needed \[3, H, W\] or \[N, 3, H, W\]"),
        ([], {"images": "nowhere"}, "nowhere does not exist"),
    ],
)
def test_arguments_are_refused_at_once_and_not_when_read(phantom, phantom_batch, neurons, options, complaint):
    arguments = {"images": phantom_batch, **options}
    with pytest.raises(TTRError, match=complaint):
        ttr.compare(phantom, ttr.RegisterNeurons.from_pairs(neurons), **arguments)


class Fetched(TorchFunctionMode):
    """Counts how often a tensor is brought to the host."""

    count = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.count += getattr(function, "__name__", "") == "cpu"
        return function(*args, **(kwargs or {}))


def test_a_batch_is_brought_to_the_host_at_once_and_not_image_by_image(phantom, phantom_batch, neurons):
    counts = []
    for images in (phantom_batch[:1], phantom_batch[:2]):
        with Fetched() as fetched:
            assert len(list(ttr.compare(phantom, neurons, images))) == len(images)
        counts.append(fetched.count)
    assert counts[0] == counts[1] > 0
