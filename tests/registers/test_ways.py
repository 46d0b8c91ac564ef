"""Detection by gradient and by clustering, against finite differences and scikit-learn's clusters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

import ttr
from tests.tools.tiny_models import scramble, tiny_clip, tiny_vit
from ttr.datasets.registry import phantom_images
from ttr.errors import ModelError, OptionError
from ttr.hooks import Site, edit, evaluation_mode, keep
from ttr.registers.by_gradient import contributions
from ttr.registers.two_clusters import smaller_cluster
from ttr.registers.ways import WAYS

LAYER = 1


@pytest.mark.parametrize("make", [tiny_vit, tiny_clip])
def test_a_contribution_is_the_slope_of_the_outliers_norm_along_the_activation(make, images):
    backbone = ttr.adapt(scramble(make()).double())
    images = images[:2].double()
    outliers = torch.zeros(2, 17, dtype=torch.bool)
    outliers[0, [3, 8]] = outliers[1, 16] = True
    found = contributions(backbone, images, LAYER, outliers)
    assert found.shape == (3, 2, 96)
    assert not found[LAYER + 1 :].any(), "later blocks have no part in it"

    def norm(block, item, token, neuron, factor):
        def scaled(x):
            x = x.clone()
            x[item, token, neuron] *= factor
            return x

        block_output = Site(backbone.sites.blocks[LAYER].module, "output")
        with (
            torch.no_grad(),
            evaluation_mode(backbone.model),
            edit([(backbone.sites.neurons[block], scaled)]),
            keep([block_output]) as tokens,
        ):
            backbone.features(images)
        return (tokens[0].norm(dim=-1) * outliers)[item].sum().item()

    for block, item, neuron in ((0, 0, 5), (1, 0, 90), (0, 1, 17), (1, 1, 2)):
        slopes = [
            (norm(block, item, t, neuron, 1 + 1e-4) - norm(block, item, t, neuron, 1 - 1e-4)) / 2e-4
            for t in outliers[item].nonzero().flatten().tolist()
        ]
        assert found[block, item, neuron].item() == pytest.approx(np.abs(slopes).mean(), rel=1e-3, abs=1e-7)


def test_the_smaller_cluster_is_scikit_learns():
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(6, 50, 12, generator=generator)
    patches[1, :7, 0] += 40
    patches[2, 20:, 3] -= 30
    patches[3, 4] *= 100
    patches[4] = 2.5
    patches[5, :25, 1] += 50
    found = smaller_cluster(patches)
    for item in (1, 2, 3, 5):
        labels = KMeans(2, n_init=10, random_state=0).fit(patches[item].numpy()).labels_
        sizes = np.bincount(labels)
        agrees = found[item].numpy() == (labels == sizes.argmin())
        assert agrees.all() or (sizes[0] == sizes[1] and not agrees.any())
    assert not found[[0, 4]].any(), "noise is no two clusters, and equal patches are none"
    assert found.sum(dim=1).tolist() == [0, 7, 20, 1, 0, 25]


@pytest.mark.parametrize("by", ["gradient", "clustering"])
def test_each_finds_the_planted_neurons_and_leaves_the_model_as_it_was(phantom, phantom_batch, by, tmp_path):
    model = phantom.model
    before = {name: (len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in model.named_modules()}
    was = [(p.requires_grad, p.grad) for p in model.parameters()]
    weights = phantom.weights_hash
    found = ttr.detect(phantom, phantom_batch, by=by, batch_size=3)
    assert set(found.pairs) == set(phantom.planted)
    assert found.provenance.by == by
    found.save(tmp_path / "neurons.json")
    assert ttr.RegisterNeurons.load(tmp_path / "neurons.json") == found
    assert [(p.requires_grad, p.grad) for p in model.parameters()] == was
    after = {name: (len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in model.named_modules()}
    assert (after, phantom.weights_hash) == (before, weights)


@pytest.mark.parametrize("by", ["gradient", "clustering"])
@pytest.mark.parametrize("sparsity", [True, False])
def test_batches_change_nothing_and_scores_are_means_over_images(by, sparsity, images):
    backbone = ttr.adapt(scramble(tiny_vit()).double())
    images = images.double()
    images[:, :, :8, :8] *= 30  # a patch that stands out, whatever the rule
    rule = {"by": by, "threshold": 1e-3, "outlier_layer": 0, "top_k": 3, "sparsity": sparsity}

    def scores(given, **how):
        table = np.zeros((3, 96))
        for layer, neuron, score in ttr.detect(backbone, given, **rule, **how).ranked:
            table[layer, neuron] = score
        return table

    together, apart = scores(images, batch_size=5), scores(images, batch_size=2)
    np.testing.assert_allclose(together, apart, rtol=1e-5, atol=1e-9)
    alone = np.mean([scores(image[None]) for image in images], axis=0)
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-9)
    assert together.any()
    plain = {**rule, "by": "norms"}
    assert ttr.detect(backbone, images, **plain).ranked != ttr.detect(backbone, images, **rule).ranked


def test_a_pass_without_gradients_is_refused_by_name(phantom, phantom_batch):
    with torch.inference_mode(), pytest.raises(ModelError, match="passes no gradient.*or by norms"):
        ttr.detect(phantom, phantom_batch, by="gradient")


def test_another_way_is_refused(phantom, phantom_batch):
    with pytest.raises(OptionError, match="by='luck'; needed one of 'norms', 'gradient', 'clustering'"):
        ttr.detect(phantom, phantom_batch, by="luck")


def test_the_command_ranks_in_each_way_and_says_how_far_halves_agree(run, tmp_path):
    (tmp_path / "images").mkdir()
    for n, drawn in enumerate(phantom_images(4)):
        drawn.image.save(tmp_path / "images" / f"{n}.png")
    shared = (
        "detect",
        "--backbone",
        "phantom",
        "--images",
        tmp_path / "images",
        "--cache",
        tmp_path / "cache",
    )
    files = []
    for by in WAYS:
        files.append(tmp_path / f"{by}.json")
        status, told, err = run(*shared, "--by", by, "--halves", "20", "--out", files[-1])
        assert status == 0, err
        assert "overlap of halves" in told
        assert ttr.RegisterNeurons.load(files[-1]).provenance.by == (None if by == "norms" else by)
    status, told, err = run("neurons", "compare", *files, "--top", "10")
    assert status == 0, err
    assert len(set(map(ttr.RegisterNeurons.load, files))) == 3, "no way answers for another from the cache"
    status, _, err = run(*shared, "--by", "luck", "--out", tmp_path / "luck.json")
    assert (status, "gradient" in err) == (2, True)


def test_one_image_has_no_halves_and_that_is_said(run, tmp_path):
    (tmp_path / "images").mkdir()
    next(iter(phantom_images(1))).image.save(tmp_path / "images" / "one.png")
    where = ("--images", tmp_path / "images", "--cache", tmp_path / "cache", "--out", tmp_path / "n.json")
    status, told, err = run("detect", "--backbone", "phantom", *where, "--halves", "5")
    assert status == 0, err
    assert (status, "No halves were drawn: that takes two images with outliers" in told) == (0, True)
