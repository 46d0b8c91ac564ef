import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from ttr.datasets.base import Card, Item, groups_of, make_dataset
from ttr.errors import OptionError
from ttr.evaluate.probe import STRENGTHS, Labelled, labelled, probabilities, train_linear, train_logistic

CLASSES = ("a", "b", "c")


def blobs(count, seed, classes=3, spread=1.2):
    random = np.random.default_rng(seed)
    y = np.arange(count) % classes
    centres = np.random.default_rng(9).normal(0, 1, (classes, 8))
    x = 5 + 3 * (centres[y] + spread * random.normal(0, 1, (count, 8)))
    return Labelled(x.astype(np.float32), y)


@pytest.fixture(scope="module")
def data():
    return blobs(120, 0), blobs(60, 1), blobs(300, 2)


def test_the_linear_probe_equals_the_published_loop_written_with_torchs_own_parts(data):
    """The reference is the ordinary training loop: nn.Linear, AdamW, CosineAnnealingLR, the best epoch."""
    train, val, _ = data
    generator = torch.Generator().manual_seed(5)
    layer = nn.Linear(8, 3)
    with torch.no_grad():
        for parameter in (layer.weight, layer.bias):
            parameter.copy_((2 * torch.rand(parameter.shape, generator=generator) - 1) / 8**0.5)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=50, eta_min=1e-4)
    x, y, loss = torch.tensor(train.x), torch.tensor(train.y), nn.CrossEntropyLoss()
    best = (float("inf"), None)
    for _ in range(50):
        order = torch.randperm(120, generator=generator)
        for start in range(0, 120, 32):
            chosen = order[start : start + 32]
            optimiser.zero_grad()
            loss(layer(x[chosen]), y[chosen]).backward()
            nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
            optimiser.step()
        schedule.step()
        found = loss(layer(torch.tensor(val.x)), torch.tensor(val.y)).item()
        if found < best[0]:
            best = (found, layer.weight.detach().clone())
    head = train_linear(train, val, CLASSES, seed=5)
    torch.testing.assert_close(head.weight, best[1], rtol=1e-4, atol=1e-5)
    assert head.classes == CLASSES


def test_the_seed_decides_and_nothing_else(data):
    train, val, _ = data
    first = train_linear(train, val, CLASSES, seed=1)
    torch.manual_seed(123)
    again = train_linear(train, val, CLASSES, seed=1)
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, train_linear(train, val, CLASSES, seed=2).weight)


@pytest.mark.parametrize("count", [2, 3])
def test_logistic_regression_equals_scikit_learns_on_raw_features(count):
    train, val, test = (blobs(n, s, count) for n, s in ((120, 0), (60, 1), (300, 2)))
    head = train_logistic(train, val, CLASSES[:count])
    scaler = StandardScaler().fit(train.x)
    found = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=1000).fit(scaler.transform(train.x), train.y)
        chances = model.predict_proba(scaler.transform(val.x))
        found.append((-np.log(chances[np.arange(60), val.y]).mean(), strength, model))
    expected = min(found, key=lambda row: row[0])[2].predict_proba(scaler.transform(test.x))
    np.testing.assert_allclose(probabilities(head, test.x), expected, atol=1e-5)


def test_both_learn_what_can_be_learnt(data):
    train, val, test = data
    for fit in (train_linear, train_logistic):
        chances = probabilities(fit(train, val, CLASSES), test.x)
        np.testing.assert_allclose(chances.sum(axis=1), 1)
        assert (chances.argmax(axis=1) == test.y).mean() > 0.6


def test_a_class_without_training_images_and_bad_features_are_refused(data):
    train, val, _ = data
    kept = train.y != 2
    with pytest.raises(OptionError, match="class 'c' has no image among the"):
        train_logistic(Labelled(train.x[kept], train.y[kept]), val, CLASSES)
    with pytest.raises(OptionError, match="needed \\[N, D\\] and \\[N\\]"):
        Labelled(train.x, train.y[:3])
    broken = train.x.copy()
    broken[0, 0] = np.nan
    with pytest.raises(OptionError, match="NaN"):
        Labelled(broken, train.y)


def test_a_split_is_labelled_by_its_items_in_their_order():
    items = [Item("c", "b", "train"), Item("b", "a", "test"), Item("a", "a", "train", group="p")]
    dataset = make_dataset("set", items, Card(*[""] * 8))
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    found = labelled(dataset, items, x, "train")
    assert found.x.tolist() == [[0, 1], [4, 5]]
    assert (found.y.tolist(), found.y.dtype) == ([1, 0], np.int64)
    with pytest.raises(OptionError, match="N >= 1"):
        labelled(dataset, items, x, "val")
    assert groups_of(items) == ("/c", "/b", "p")
    assert groups_of(items[:2]) is None
