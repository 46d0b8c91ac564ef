"""Sizing the intervention: the sweeps against plain Python, and the advice against the planted truth."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import scipy.stats
from PIL import Image

import ttr
from tests.tools.tiny_models import scramble, tiny_vit
from ttr.datasets.registry import phantom_images
from ttr.errors import ImageError, ModelError, OptionError
from ttr.forward.record import record
from ttr.norms import outlier_threshold
from ttr.registers.detection import DetectionRule
from ttr.run import Run
from ttr.studies.tune.tuning import (
    SweepRow,
    default_top_k,
    default_top_layers,
    recommend,
    split,
    sweep_neurons,
    sweep_registers,
)


@pytest.fixture(scope="module")
def swept(phantom, phantom_batch, ranking):
    return sweep_neurons(phantom, ranking, phantom_batch[4:], top_k=[1, 8, 9, 10, 12], top_layers=[1, 2])


def row_of(rows, **wanted):
    (found,) = [row for row in rows if all(getattr(row, key) == value for key, value in wanted.items())]
    return found


def test_rows_hold_what_one_image_at_a_time_gives(phantom, phantom_batch, ranking, swept):
    neurons = ttr.RegisterNeurons.from_pairs(ranking.pairs[:8])
    shares, bare_shares, norms = [], [], []
    for image in phantom_batch[4:]:
        bare = record(phantom, image[None]).norms[-2][0, 1:]
        limit = float(outlier_threshold(bare))
        with ttr.TestTimeRegisters(phantom, neurons):
            wrapped = record(phantom, image[None]).norms[-2][0, 2:]
        bare_shares.append(sum(float(n) > limit for n in bare) / 196)
        shares.append(sum(float(n) > limit for n in wrapped) / 196)
        norms.append(float(wrapped.max()))
    row = row_of(swept, top_layer=2, top_k=8)
    assert row.outlier_share == pytest.approx(np.mean(shares))
    assert row.remaining == pytest.approx(np.mean(shares) / np.mean(bare_shares))
    assert row.max_patch_norm == pytest.approx(np.mean(norms), rel=1e-4)
    assert swept[0].sweep == "bare"
    assert swept[0].outlier_share == pytest.approx(np.mean(bare_shares))
    assert swept[0].remaining == 1


def test_the_planted_neurons_are_recommended_and_no_fewer_suffice_than_do(phantom, swept, ranking):
    """Each of the ten carries 1.2 median norms: two left behind make an outlier (2 medians), one does not."""
    assert row_of(swept, top_layer=2, top_k=8).remaining > 0.5
    assert row_of(swept, top_layer=2, top_k=10).remaining == 0
    assert row_of(swept, top_layer=1, top_k=12).remaining == pytest.approx(1)
    coarse = [row for row in swept if row.top_k != 9]
    advice = recommend(coarse, ranking)
    assert advice.status == "too few images"
    assert "(without any left, 73 would do)" in advice.neurons.message
    assert recommend(coarse, ranking, tolerance=0.9).status == "vanished"
    assert advice.neurons.pairs == list(phantom.planted) or set(advice.neurons.pairs) == set(phantom.planted)
    assert (advice.row.top_k, advice.row.top_layer) == (10, 2)
    assert advice.neurons.provenance.top_layer == 2
    fine = recommend(swept, ranking)
    nine = row_of(swept, top_layer=2, top_k=9)
    assert fine.row.top_k == (9 if nine.remaining <= 0.05 else 10)
    assert set(fine.neurons.pairs) <= set(phantom.planted)


def test_the_advice_takes_the_upper_end_the_fewest_and_the_lowest(ranking):
    bare = SweepRow("bare", None, None, 0, 0, 0.04, 0.03, 0.05, 1.0, 1.0, 1.0, 100.0)

    def row(layer, k, remaining, high):
        share = 0.04 * remaining
        return SweepRow("neurons", layer, k, k, 1, share, share, share, remaining, remaining, high, 10.0)

    lucky, second, wide, best = (
        row(2, 5, 0.01, 0.2),
        row(4, 8, 0.02, 0.04),
        row(2, 9, 0, 0),
        row(3, 8, 0, 0.05),
    )
    assert recommend([bare, wide, second, best, lucky], ranking).row == best
    found = recommend([bare, lucky, row(2, 3, 0.3, 0.4), row(4, 5, 0.01, 0.2)], ranking)
    assert found.status == "too few images"
    assert found.row == lucky
    assert len(found.neurons) == 5
    assert "too few to show that outliers vanish to 5.0 %" in found.neurons.message
    left = recommend([bare, row(2, 3, 0.3, 0.4), row(4, 5, 0.1, 0.2)], ranking)
    assert (left.status, left.row.top_k) == ("remain", 5)
    assert "no setting makes the outliers vanish" in left.neurons.message
    assert recommend([bare, lucky], ranking, tolerance=0.2).status == "vanished"


def test_nothing_left_in_few_images_is_not_nothing(swept, phantom_batch):
    """With none of n images holding an outlier, Wilson's upper end is z^2 / (n + z^2)."""
    clean = row_of(swept, top_layer=2, top_k=10)
    images, z = len(phantom_batch) - 4, scipy.stats.norm.ppf(0.975)
    assert (clean.remaining, clean.remaining_low) == (0, 0)
    assert clean.remaining_high > z**2 / (images + z**2) - 1e-9
    assert clean.outlier_share_high == pytest.approx(swept[0].outlier_share * clean.remaining_high)
    assert (swept[0].remaining_low, swept[0].remaining_high) == (1, 1)


def test_registers_change_the_embedding_by_what_they_do(phantom, phantom_batch):
    neurons = ttr.RegisterNeurons.from_pairs(phantom.planted)
    images = phantom_batch[:3]
    rows = sweep_registers(phantom, neurons, images, num_registers=[5, 0, 1, 1])
    assert [row.num_registers for row in rows] == [0, 1, 5]
    one = row_of(rows, num_registers=1)
    assert (one.cosine, one.cosine_low, one.cosine_high) == pytest.approx((1, 1, 1), abs=1e-12)
    embeddings = {}
    for count in (1, 5):
        with ttr.TestTimeRegisters(phantom, neurons, num_registers=count):
            embeddings[count] = phantom.embed(images).double().numpy()
            attention = record(phantom, images, attention=True).cls_attention[-1][:, :, 1 : 1 + count]
    a, b = embeddings[1], embeddings[5]
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    five = row_of(rows, num_registers=5)
    assert five.cosine == pytest.approx(cosines.mean(), abs=1e-9)
    assert five.cosine_low <= cosines.min() <= cosines.max() <= five.cosine_high <= 1
    assert five.register_attention == pytest.approx(float(attention.sum(2).mean()), rel=1e-5)
    assert row_of(rows, num_registers=0).register_attention == 0
    (alone,) = sweep_registers(phantom, neurons, images, num_registers=[5])
    for name, value in asdict(five).items():
        near = pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
        assert getattr(alone, name) == near, name


def test_equal_sets_are_run_once(phantom, phantom_batch, ranking, monkeypatch):
    passes = []
    real = record
    monkeypatch.setattr("ttr.studies.tune.sweep.record", lambda *a, **k: passes.append(1) or real(*a, **k))
    rows = sweep_neurons(phantom, ranking, phantom_batch[:1], top_k=[1, 10], top_layers=[2, 4, -1])
    assert len(rows) == 1 + 6
    assert len(passes) == 1 + 2


def test_a_model_without_cls_has_no_attention_to_show(images):
    backbone = ttr.adapt(scramble(tiny_vit(class_token=False, global_pool="avg")))
    neurons = ttr.RegisterNeurons.from_pairs([(0, 3), (1, 5)])
    rows = sweep_registers(backbone, neurons, images, num_registers=[0, 1], rule=DetectionRule(threshold=0.1))
    assert [row.register_attention for row in rows] == [None, None]
    assert all(row.remaining is not None for row in rows)


def test_halves_are_apart_seeded_and_whole():
    found_on, measured_on = split(9, seed=1)
    assert (len(found_on), len(measured_on)) == (4, 5)
    assert sorted(found_on + measured_on) == list(range(9))
    assert split(9, seed=1) == (found_on, measured_on)
    assert split(20, seed=1) != split(20, seed=2)
    assert split(3, seed=1) == ([0, 1, 2], [0, 1, 2])


def test_defaults_surround_what_detection_found(ranking):
    assert default_top_k(ranking) == [1, 2, 5, 8, 10, 12, 20, 50, 100]
    assert default_top_k(ranking, limit=9) == [1, 2, 5, 8, 10, 12]
    assert default_top_layers(ranking, 4) == [0, 2, 4]
    few = ttr.RegisterNeurons.from_pairs([(1, 5), (3, 2), (0, 1)])
    assert default_top_k(few) == [1, 2, 3]
    assert default_top_layers(few, 4) == [1, 3, 4]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"top_k": []}, "list of top_k is empty"),
        ({"top_k": [0, 3]}, "top_k=0; needed 1 or more"),
        ({"top_k": [5000]}, "top_k=5000, but the ranking holds 4,608"),
        ({"top_layers": []}, "list of top_layers is empty"),
        ({"num_registers": -1}, "num_registers=-1"),
        ({"treshold": 3}, "treshold"),
    ],
)
def test_sweeps_refuse_what_they_cannot_do(phantom, phantom_batch, ranking, options, complaint):
    with pytest.raises((OptionError, TypeError), match=complaint):
        sweep_neurons(phantom, ranking, phantom_batch, **{"top_k": [1], "top_layers": [2], **options})
    with pytest.raises(OptionError, match="list of num_registers is empty"):
        sweep_registers(phantom, ranking, phantom_batch, num_registers=[])
    with pytest.raises(ModelError, match="top_layer=6"):
        sweep_neurons(phantom, ranking, phantom_batch, top_k=[1], top_layers=[6])
    with pytest.raises(ImageError, match="no images"):
        sweep_registers(phantom, ranking, [], num_registers=[1])
    with pytest.raises(OptionError, match="tolerance=1"):
        recommend([], ranking, tolerance=1)


def test_memory_does_not_hold_images_or_tokens(phantom, ranking):
    """A generator is drawn from batch by batch: no more than one batch is asked for ahead."""
    alive, most = 0, 0

    class Counted(Image.Image):
        def __init__(self, image):
            nonlocal alive, most
            super().__init__()
            self._im, self._mode, self._size = image.im, image.mode, image.size
            alive += 1
            most = max(most, alive)

        def __del__(self):
            nonlocal alive
            alive -= 1

    images = (Counted(p.image) for p in phantom_images(6))
    sweep_neurons(phantom, ranking, images, top_k=[10], top_layers=[2], run=Run(batch_size=2))
    assert most <= 2
