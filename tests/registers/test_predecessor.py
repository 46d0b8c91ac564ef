"""The eight mistakes of the predecessors, one test each, and the options that reproduce their numbers.

The predecessor's code is written again here from its description: one image at a time, the register appended
at the END of the sequence, one signed maximum a layer, CLS left alone.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

import ttr
from tests.tools.edited_by_hand import feature_edited_by_hand
from tests.tools.tiny_models import scramble, tiny_clip, tiny_vit
from ttr.forward.record import record
from ttr.registers.seen import find_outliers

NEURONS = ttr.RegisterNeurons.from_pairs([(0, 3), (0, 40), (1, 5), (2, 9)])


def predecessor_forward(backbone, image, pairs, registers, normal="zero"):
    """Return the global feature of ONE image [3, H, W] as the predecessor's hooks make it."""
    prefix = backbone.layout.prefix

    def moved(hidden, listed):
        hidden = hidden.clone()
        values = hidden[0][:, listed]
        peak = values.max() if values.max().abs() > values.min().abs() else values.min()
        hidden[0, -registers:, listed] = peak
        patches = hidden[0, prefix:-registers, listed]
        if normal == "zero":
            hidden[0, prefix:-registers, listed] = 0
        elif normal == "mean":
            hidden[0, prefix:-registers, listed] = patches.mean(dim=0).expand_as(patches)
        elif normal == "clip":
            mean, limit = patches.mean(dim=0), patches.mean(dim=0) + patches.std(dim=0)
            hidden[0, prefix:-registers, listed] = torch.where(patches > limit, mean, patches)
        return hidden

    edits = {
        layer: partial(moved, listed=[n for at, n in pairs if at == layer])
        for layer in {layer for layer, _ in pairs}
    }
    return feature_edited_by_hand(backbone, image, registers, edits)


def predecessor_ranking(backbone, images, layer, threshold, sparse):
    """Return scores [blocks, neurons] as the predecessor's detection computes them, image by image."""
    total, counted = np.zeros((backbone.num_layers, backbone.num_neurons)), 0
    for image in images:
        hidden = {}
        with torch.no_grad():
            passed = record(backbone, image[None], neurons=hidden.__setitem__)
        where = np.flatnonzero(passed.norms[layer, 0].numpy() > threshold)
        if not where.size:
            continue
        counted += 1
        for at, activations in hidden.items():
            active = activations[0].numpy()
            score = np.abs(active[where]).mean(axis=0)
            if sparse:
                score = score * ((active < 0.5).sum(axis=0) >= 0.5 * active.shape[0])
            total[at] += score
    return total / counted


@pytest.mark.parametrize("make", [tiny_vit, tiny_clip])
@pytest.mark.parametrize("registers", [1, 4])
@pytest.mark.parametrize("others", ["zero", "mean", "clip", "keep"])
def test_layer_value_and_patch_scope_reproduce_the_predecessors_features(make, registers, others, images):
    backbone = ttr.adapt(scramble(make()))
    expected = torch.stack(
        [predecessor_forward(backbone, image, NEURONS.pairs, registers, others) for image in images]
    )
    options = {"register_value": "layer", "scope": "patches", "others": others}
    with ttr.TestTimeRegisters(backbone, NEURONS, num_registers=registers, **options):
        torch.testing.assert_close(backbone.embed(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [tiny_vit, tiny_clip])
@pytest.mark.parametrize("sparsity", [True, False])
def test_rankings_equal_the_predecessors(make, sparsity, images):
    backbone = ttr.adapt(scramble(make()))
    threshold = float(record(backbone, images).norms[1].quantile(0.8))
    expected = predecessor_ranking(backbone, images, 1, threshold, sparsity)
    options = {"outlier_layer": 1, "include_cls": True, "sparsity": sparsity, "batch_size": 2}
    found = ttr.detect(backbone, images, threshold=threshold, **options)
    scores = np.zeros_like(expected)
    for layer, neuron, score in found.ranking:
        scores[layer, neuron] = score
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)
    assert len(found.ranking) == expected.size
    ordered = [r.score for r in found.ranking]
    assert ordered == sorted(ordered, reverse=True)


def test_mistake_1_every_item_of_a_batch_is_edited(images):
    backbone = ttr.adapt(scramble(tiny_vit()))
    bare = backbone.embed(images)
    with ttr.TestTimeRegisters(backbone, NEURONS):
        wrapped = backbone.embed(images)
    assert ((wrapped - bare).norm(dim=1) > 1e-3).all()


def test_mistake_2_each_neuron_has_its_own_register_value(images):
    backbone = ttr.adapt(scramble(tiny_vit()))
    kept = {}
    with ttr.TestTimeRegisters(backbone, NEURONS):
        record(backbone, images, neurons=kept.__setitem__)
    values = kept[0][:, 1, [3, 40]]
    assert (values[:, 0] != values[:, 1]).all()


def test_mistake_3_cls_is_zeroed_too(images):
    backbone = ttr.adapt(scramble(tiny_vit()))
    for scope, zeroed in (("all", True), ("patches", False)):
        kept = {}
        with ttr.TestTimeRegisters(backbone, NEURONS, scope=scope):
            record(backbone, images, neurons=kept.__setitem__)
        assert (kept[0][:, 0, [3, 40]] == 0).all() == zeroed


def test_mistake_4_patches_keep_patch_zero_and_do_not_gain_the_register(images):
    """With nothing moved and attention silenced, the patches are the bare model's, in order."""
    model = scramble(tiny_vit(reg_tokens=4, no_embed_class=True))
    with torch.no_grad():
        for block in model.blocks:
            block.attn.proj.weight.zero_()
    backbone = ttr.adapt(model)
    bare = backbone.tokens(images)
    with ttr.TestTimeRegisters(backbone, ttr.RegisterNeurons.from_pairs([]), num_registers=3):
        wrapped = backbone.tokens(images)
    torch.testing.assert_close(wrapped.patches, bare.patches)
    torch.testing.assert_close(wrapped.registers, bare.registers)


def test_mistake_5_cls_is_no_outlier_unless_asked(images):
    backbone = ttr.adapt(scramble(tiny_vit()))
    passed = record(backbone, images)
    passed.norms[:, :, 0] = 1e6
    assert not find_outliers(passed, 1, 1e5).any()
    with_cls = find_outliers(passed, 1, 1e5, include_cls=True)
    assert with_cls[:, 0].all()
    assert not with_cls[:, 1:].any()


def test_mistake_6_zero_registers_still_zero_the_neurons_of_every_patch(images):
    backbone = ttr.adapt(scramble(tiny_vit()))
    kept = {}
    with ttr.TestTimeRegisters(backbone, NEURONS, num_registers=0):
        record(backbone, images, neurons=kept.__setitem__)
    assert kept[0].shape[1] == 17
    assert not kept[0][:, :, [3, 40]].any()


def test_mistake_7_the_blank_token_is_not_the_bare_model(images):
    backbone = ttr.adapt(scramble(tiny_vit()))
    bare = backbone.embed(images)
    with ttr.TestTimeRegisters(backbone, ttr.RegisterNeurons.from_pairs([])):
        assert not torch.allclose(backbone.embed(images), bare, atol=1e-4)


def test_mistake_8_samples_are_seeded_over_a_sorted_list(tmp_path):
    from PIL import Image

    from ttr.datasets.folder import list_images

    for name in ("b", "a", "d", "c", "e"):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    assert [p.stem for p in list_images(tmp_path)] == ["a", "b", "c", "d", "e"]
    drawn = [list_images(tmp_path, limit=3, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
