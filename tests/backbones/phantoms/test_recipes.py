"""The phantoms are what they say: their truth, their look after the move, and the published pattern."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import ttr
from tests.tools.tiny_models import scramble, tiny_eva, tiny_vit
from ttr.backbones.phantoms import recipes
from ttr.backbones.phantoms.names import OF_RANDOM_WEIGHTS
from ttr.backbones.phantoms.recipes import RECIPES
from ttr.datasets.phantom import CLASSES, phantom_image, phantom_images
from ttr.errors import ModelError, OptionError
from ttr.forward.record import record
from ttr.hooks import capture, edit
from ttr.norms import outlier_threshold


@pytest.mark.parametrize("name", ["phantom", "phantom-clip"])
def test_one_register_takes_the_norm_and_the_attention(name):
    backbone = ttr.load(name)
    neurons = ttr.RegisterNeurons.from_pairs(backbone.planted)
    for comparison in ttr.compare(backbone, neurons, [p.image for p in phantom_images(8)]):
        before, after = comparison.before, comparison.after
        assert before.outlier_patches >= 4
        assert after.outlier_patches == 0
        assert after.max_patch_norm <= 0.2 * before.max_patch_norm
        assert after.max_patch_attention <= 0.05 * before.max_patch_attention
        assert after.register_norm == pytest.approx(before.max_patch_norm, rel=0.1)
        assert 0.6 <= after.register_attention <= 0.95


@pytest.mark.parametrize("autocast", [False, True])
# Half precision other than bfloat16 is slow on a CPU.
@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["phantom", "phantom-clip"])
def test_outlier_counts_in_half_precision_are_those_of_float32(name, dtype, autocast):
    exact, half = ttr.load(name), ttr.load(name, dtype=torch.float32 if autocast else dtype)
    neurons = ttr.RegisterNeurons.from_pairs(exact.planted)
    batch = torch.stack([exact.preprocess(p.image) for p in phantom_images(2)])

    def counts(backbone, wrapped):
        bare = record(backbone, batch)
        patch_norms = bare.layout.select(bare.norms, "patches", dim=2)[-2]
        assert patch_norms.dtype == torch.float32
        limit = outlier_threshold(patch_norms)
        assert limit.dtype == torch.float32
        if wrapped:
            with ttr.TestTimeRegisters(backbone, neurons):
                moved = record(backbone, batch)
            patch_norms = moved.layout.select(moved.norms, "patches", dim=2)[-2]
        return (patch_norms > limit[:, None]).sum(dim=1).tolist()

    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        found = [counts(half, wrapped) for wrapped in (False, True)]
    assert found == [counts(exact, wrapped) for wrapped in (False, True)]
    assert min(found[0]) >= 4
    assert max(found[1]) == 0


def test_a_batch_equals_its_items_with_one_register(phantom, phantom_batch):
    with ttr.TestTimeRegisters(phantom, ttr.RegisterNeurons.from_pairs(phantom.planted)):
        together = phantom.embed(phantom_batch)
        alone = torch.cat([phantom.embed(image[None]) for image in phantom_batch])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["phantom", "phantom-registers"])
def test_the_same_phantom_is_built_every_time_whatever_the_global_seed(name):
    torch.manual_seed(1)
    first = ttr.load(name).weights_hash
    recipes._built.cache_clear()
    torch.manual_seed(2)
    assert ttr.load(name).weights_hash == first


def test_each_name_is_another_phantom():
    assert len({ttr.load(name).weights_hash for name in OF_RANDOM_WEIGHTS}) == 9


def test_a_phantom_is_nobody_elses():
    """It is planted once a process; what is done to one does not reach the next."""
    first = ttr.load("phantom", image_size=64)
    with torch.no_grad():
        for parameter in first.model.parameters():
            parameter.zero_()
    second = ttr.load("phantom", image_size=64)
    assert second.weights_hash != first.weights_hash
    assert record(second, torch.ones(1, 3, 64, 64)).norms.all(), "its hooks see its own blocks"


def test_every_phantom_says_what_it_is():
    for name in OF_RANDOM_WEIGHTS:
        backbone = ttr.load(name)
        assert "not the biology" in backbone.warning
        assert backbone.weights.origin == "phantom"
        assert len(backbone.planted) == (10 if name in RECIPES else 0)


def labelled(backbone, count, classes, seed):
    drawn = list(phantom_images(count, seed=seed, classes=classes))
    random = np.random.default_rng(0).permutation(count)
    images = torch.stack([backbone.preprocess(drawn[i].image) for i in random])
    return images, np.array([drawn[i].label for i in random])


def features(backbone, images):
    return torch.cat([backbone.embed(batch) for batch in images.split(40)]).numpy()


def probe(x, y):
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(x, y)


@pytest.mark.slow  # tests/studies/bench holds the same by default, on fewer images
def test_moving_preserves_what_zeroing_breaks(phantom):
    train, train_labels = labelled(phantom, 160, 4, seed=1)
    test, labels = labelled(phantom, 160, 4, seed=2)
    head = probe(features(phantom, train), train_labels)
    plain = head.score(features(phantom, test), labels)
    neurons = ttr.RegisterNeurons.from_pairs(phantom.planted)
    with ttr.TestTimeRegisters(phantom, neurons):
        moved = head.score(features(phantom, test), labels)
        own = probe(features(phantom, train), train_labels).score(features(phantom, test), labels)
    with ttr.TestTimeRegisters(phantom, neurons, num_registers=0):
        zeroed = head.score(features(phantom, test), labels)
    assert plain >= 0.9
    assert moved >= plain - 0.04
    assert own >= plain - 0.04
    assert zeroed <= plain - 0.15


@pytest.mark.slow
def test_zeroing_trained_registers_collapses_what_plausible_values_preserve():
    backbone = ttr.load("phantom-reg4")
    train, train_labels = labelled(backbone, 240, 6, seed=1)
    test, labels = labelled(backbone, 240, 6, seed=2)
    registers = backbone.layout.where("registers")
    kept: list[list[torch.Tensor]] = [[] for _ in range(backbone.num_layers)]
    with capture(backbone.sites.blocks, lambda i, x, kwargs: kept[i].append(x[:, registers])):
        head = probe(features(backbone, train), train_labels)
    values = [torch.cat(layer) for layer in kept]
    generator = torch.Generator().manual_seed(0)

    def substitute(layer, kind):
        mean, sd = values[layer].mean(dim=0), values[layer].std(dim=0)

        def replace(x):
            x = x.clone()
            own = x[:, registers]
            noise = torch.randn(own.shape, generator=generator)
            new = {
                "zero": 0 * own,
                "mean": mean.expand_as(own),
                "noise": mean + sd * noise,
                "shuffle": own.roll(1, dims=0),
            }[kind]
            x[:, registers] = new
            return x

        return replace

    full = head.score(features(backbone, test), labels)
    scores = {}
    for kind in ("zero", "mean", "noise", "shuffle"):
        with edit([(site, substitute(i, kind)) for i, site in enumerate(backbone.sites.blocks)]):
            scores[kind] = head.score(features(backbone, test), labels)
    assert full >= 0.85
    assert scores["zero"] <= full - 0.4
    for kind in ("mean", "noise", "shuffle"):
        assert abs(scores[kind] - full) <= 0.025, kind


def test_the_sink_of_trained_registers_holds_most_of_the_attention():
    backbone = ttr.load("phantom-reg4")
    images = torch.stack([backbone.preprocess(p.image) for p in phantom_images(4)])
    passed = record(backbone, images, attention=True)
    held = passed.layout.select(passed.cls_attention.mean(dim=2), "registers", dim=2).sum(dim=2)
    assert 0.65 <= float(held[-1].mean()) <= 0.95
    assert float(held[0].mean()) < 0.1


def test_planting_reserves_three_dimensions_and_can_be_refused():
    planted = ttr.plant(scramble(tiny_vit(depth=4)), count=3)
    assert len(planted.planted) == 3
    assert {layer for layer, _ in planted.planted} == {1}
    assert planted.weights.origin == "planted"
    with pytest.raises(ModelError, match="cannot plant in Eva"):
        ttr.plant(scramble(tiny_eva()))
    with pytest.raises(ModelError, match="query bias"):
        ttr.plant(scramble(tiny_vit(qkv_bias=False)))
    with pytest.raises(OptionError, match="no trained registers"):
        ttr.plant(scramble(tiny_vit()), carrier="registers")
    with pytest.raises(OptionError, match="carrier='cls'; needed 'patches' or 'registers'"):
        ttr.plant(scramble(tiny_vit()), carrier="cls")
    for strength in ("12", 0, float("nan"), True):
        with pytest.raises(OptionError, match=f"strength={strength!r}; needed a positive number"):
            ttr.plant(scramble(tiny_vit()), strength=strength)
    with pytest.raises(OptionError, match=r"layer=1.5; needed an integer"):
        ttr.plant(scramble(tiny_vit()), layer=1.5)
    with pytest.raises(OptionError, match="mass=1"):
        ttr.plant(scramble(tiny_vit()), mass=1)
    with pytest.raises(OptionError, match="count=0"):
        ttr.plant(scramble(tiny_vit()), count=0)


def test_phantom_sizes():
    small = ttr.load("phantom", image_size=160)
    images = [p.image for p in phantom_images(4)]
    assert ttr.detect(small, images).pairs == list(small.planted)
    with pytest.raises(ModelError, match="image_size=100; the phantoms need a multiple of 16"):
        ttr.load("phantom", image_size=100)


def test_phantom_images_follow_from_seed_and_index_alone():
    first, again = phantom_image(5, seed=3), phantom_image(5, seed=3)
    assert first.image.tobytes() == again.image.tobytes()
    assert phantom_image(6, seed=3).image.tobytes() != first.image.tobytes()
    drawn = list(phantom_images(12, classes=6))
    assert [p.label for p in drawn] == [*CLASSES, *CLASSES]
    for p in drawn:
        pixels = np.asarray(p.image.convert("L"), dtype=float)
        assert pixels[~p.mask].mean() < 20 < 50 < pixels[p.mask].mean()
        assert p.mask[tuple(p.keypoints[0].round().astype(int)[::-1])]
        assert p.keypoints.shape == (5, 2)
