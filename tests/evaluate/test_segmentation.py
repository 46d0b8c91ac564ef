"""Segmentation against scikit-learn (probe and IoU), plain loops (patches) and closed forms (upsampling)."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, jaccard_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ttr.datasets.phantom_set import phantom_set
from ttr.errors import OptionError
from ttr.evaluate.heads import LinearHead
from ttr.evaluate.masks import mask_as_seen
from ttr.evaluate.probe import probabilities
from ttr.evaluate.segmentation import (
    confusions,
    miou,
    miou_resampled,
    patch_targets,
    sample_patches,
    train_patch_probe,
)

NAMES = ("background", "a", "b", "c")


def random_masks(count, height, width, seed=0, values=(0, 1, 2, 3, 255)):
    return np.random.default_rng(seed).choice(values, (count, height, width))


def test_the_target_of_a_patch_is_the_class_of_most_of_its_pixels():
    masks = random_masks(3, 12, 20)
    found = patch_targets(masks, (3, 4))
    for image in range(3):
        for row in range(3):
            for column in range(4):
                cell = masks[image, 4 * row : 4 * row + 4, 5 * column : 5 * column + 5]
                counts = {value: (cell == value).sum() for value in (0, 1, 2, 3, 255)}
                assert found[image, 4 * row + column] == max(counts, key=counts.get)


def test_patches_of_equal_shares_and_ignored_ones():
    mask = np.array([[[2, 1, 255, 255], [2, 1, 255, 0], [3, 3, 0, 255], [3, 0, 255, 0]]])
    assert patch_targets(mask, (2, 2)).tolist() == [[1, 255, 3, 0]]


def test_the_sample_is_capped_drawn_from_what_counts_and_the_same_whatever_the_batch():
    patches = torch.arange(5 * 6).reshape(5, 6, 1).float()
    targets = np.tile([0, 1, 255, 2, 255, 3], (5, 1))
    targets[3] = 255
    x, y = sample_patches(patches, targets, 3, np.random.default_rng(0))
    assert x.shape == (12, 1)
    assert x.dtype == np.float32
    assert np.array_equal(targets.ravel()[x[:, 0].astype(int)], y)
    assert len(set(x[:, 0])) == 12, "without replacement"
    generator = np.random.default_rng(0)
    parts = [sample_patches(patches[i : i + 1], targets[i : i + 1], 3, generator) for i in range(5)]
    assert np.array_equal(np.concatenate([part for part, _ in parts]), x)
    assert len(sample_patches(patches, targets, 99, generator)[1]) == 16
    drawn = [sample_patches(patches, targets, 1, np.random.default_rng(seed))[1] for seed in range(100)]
    counts = np.bincount(np.concatenate(drawn), minlength=4)
    assert np.abs(counts - 100).max() < 4 * np.sqrt(400 * 3 / 16), "all that count are equally likely"
    with pytest.raises(OptionError, match="per_image=0"):
        sample_patches(patches, targets, 0, generator)


def test_the_probe_equals_scikit_learns_and_does_not_depend_on_the_order():
    random = np.random.default_rng(0)
    y = random.integers(0, 4, 300)
    x = (5 + random.normal(0, 1, (4, 8))[y] + random.normal(0, 1, (300, 8))).astype(np.float32)
    head = train_patch_probe(x, y, NAMES)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(x, y)
    np.testing.assert_allclose(probabilities(head, x), model.predict_proba(x), atol=1e-4)
    order = random.permutation(300)
    again = train_patch_probe(x[order], y[order], NAMES)
    np.testing.assert_allclose(probabilities(again, x), probabilities(head, x), atol=1e-3)
    assert head.classes == NAMES


@pytest.mark.parametrize("present", [(0, 2, 3), (1, 2)])
def test_a_class_without_a_training_patch_is_never_predicted(present):
    random = np.random.default_rng(0)
    y = random.choice(present, 200)
    x = (random.normal(0, 1, (4, 8))[y] + random.normal(0, 1, (200, 8))).astype(np.float32)
    head = train_patch_probe(x, y, NAMES)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(x, y)
    np.testing.assert_allclose(probabilities(head, x)[:, list(present)], model.predict_proba(x), atol=1e-4)
    found = confusions(head, 50 * torch.randn(4, 6, 8), (2, 3), random_masks(4, 8, 12))
    assert set(np.flatnonzero(found.sum(axis=(0, 1)))) == set(present)


def test_a_probe_that_cannot_be_trained_is_refused():
    x = np.zeros((4, 2), dtype=np.float32)
    with pytest.raises(OptionError, match="all training patches are 'a'; needed two classes"):
        train_patch_probe(x, np.ones(4, dtype=np.int64), NAMES)
    with pytest.raises(OptionError, match=r"reach from 0 to 255; needed 0\.\.3"):
        train_patch_probe(x, np.array([0, 1, 2, 255]), NAMES)


def identity_head(classes):
    return LinearHead(torch.eye(classes), torch.zeros(classes), NAMES[:classes])


def bilinear(plane, height, width):
    """Upsample by the definition: a pixel's centre lies between the centres of four patches."""
    rows, columns = plane.shape
    out = np.empty((height, width))
    for i in range(height):
        for j in range(width):
            y = np.clip((i + 0.5) * rows / height - 0.5, 0, rows - 1)
            x = np.clip((j + 0.5) * columns / width - 0.5, 0, columns - 1)
            r, c = int(y), int(x)
            r1, c1 = min(r + 1, rows - 1), min(c + 1, columns - 1)
            top = plane[r, c] * (1 - (x - c)) + plane[r, c1] * (x - c)
            low = plane[r1, c] * (1 - (x - c)) + plane[r1, c1] * (x - c)
            out[i, j] = top * (1 - (y - r)) + low * (y - r)
    return out


def test_confusions_count_the_pixels_of_logits_upsampled_by_the_definition():
    patches = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    masks = random_masks(3, 16, 30)
    found = confusions(identity_head(4), patches, (2, 3), masks)
    for image in range(3):
        planes = patches[image].T.reshape(4, 2, 3).numpy()
        predicted = np.stack([bilinear(plane, 16, 30) for plane in planes]).argmax(axis=0)
        counted = masks[image] != 255
        expected = confusion_matrix(masks[image][counted], predicted[counted], labels=range(4))
        assert np.array_equal(found[image], expected)
    low = confusions(identity_head(4), patches.bfloat16(), (2, 3), masks)
    assert np.abs(low - found).sum() < 0.05 * found.sum()
    with pytest.raises(OptionError, match=r"a mask holds the class 3; needed 0\.\.2 or 255"):
        confusions(identity_head(3), patches[..., :3], (2, 3), masks)


def macro_jaccard(truth, predicted):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return jaccard_score(truth, predicted, average="macro")


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 6), pixels=st.integers(1, 40))
def test_miou_is_scikit_learns_macro_jaccard(seed, classes, pixels):
    random = np.random.default_rng(seed)
    truth, predicted = random.integers(0, classes, (2, pixels))
    table = confusion_matrix(truth, predicted, labels=range(classes + 1))
    assert miou(table) == pytest.approx(macro_jaccard(truth, predicted), abs=1e-12)


def test_resampled_miou_is_that_of_the_images_repeated():
    random = np.random.default_rng(0)
    truth, predicted = random.integers(0, 5, (2, 12, 30))
    tables = np.stack(
        [confusion_matrix(t, p, labels=range(5)) for t, p in zip(truth, predicted, strict=True)]
    )
    weights = random.multinomial(12, np.full(12, 1 / 12), size=50)
    expected = [
        macro_jaccard(truth.repeat(w, axis=0).ravel(), predicted.repeat(w, axis=0).ravel()) for w in weights
    ]
    np.testing.assert_allclose(miou_resampled(tables, weights), expected, rtol=1e-12)
    assert miou_resampled(tables, np.ones((1, 12)))[0] == pytest.approx(miou(tables.sum(axis=0)))


def test_miou_in_closed_form_and_without_pixels():
    assert miou(np.diag([3, 0, 9])) == 1, "a class that does not occur does not count"
    assert miou(np.array([[2, 1], [1, 0]])) == pytest.approx(0.25), "2/4 and 0/2"
    assert np.isnan(miou(np.zeros((3, 3), dtype=np.int64)))
    assert np.isnan(miou_resampled(np.zeros((2, 3, 3), dtype=np.int64), np.ones((1, 2)))[0])


@pytest.mark.slow
def test_on_the_phantom_the_probe_finds_discs_and_textures(phantom):
    """And features that belong to other images find nothing but the disc's place."""
    dataset = phantom_set(counts={"train": 48, "val": 6, "test": 24})

    def seen(split):
        items = dataset.masked(split)
        images = torch.stack([phantom.preprocess(dataset.open(item)) for item in items])
        masks = np.stack([mask_as_seen(phantom, dataset.masks.open(item)) for item in items])
        return phantom.tokens(images).patches, masks

    grid = phantom.layout.grid
    patches, masks = seen("train")
    x, y = sample_patches(patches, patch_targets(masks, grid), 32, np.random.default_rng(0))
    head = train_patch_probe(x, y, dataset.masks.classes)
    patches, masks = seen("test")
    found = miou(confusions(head, patches, grid, masks).sum(axis=0))
    strangers = miou(confusions(head, patches.roll(1, dims=0), grid, masks).sum(axis=0))
    assert found > 0.45
    assert strangers < 0.3
