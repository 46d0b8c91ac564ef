"""What a detection concludes from one image, from two halves that agree, and from two that do not."""

from __future__ import annotations

import pytest
import torch

import ttr
from tests.tools.tiny_models import tiny_vit
from ttr.datasets.registry import phantom_images
from ttr.registers.doubles import alike, thumbnails
from ttr.registers.evidence import Evidence


def shown(*neurons):
    """Return evidence of which each half's neurons alone are extreme and selective, all in block 1."""
    evidence = Evidence(ttr.adapt(tiny_vit()))
    generator = torch.Generator().manual_seed(0)
    for half, extreme in zip(evidence.halves, neurons, strict=True):
        half.images = 1
        half.scores += torch.rand(half.scores.shape, generator=generator, dtype=torch.float64)
        half.scores[1, list(extreme)] = 1000
        half.at_outliers += half.scores
        half.elsewhere += half.scores
        half.elsewhere[1, list(extreme)] = 1
    return evidence


@pytest.mark.parametrize(
    ("neurons", "agree"),
    [
        (((3, 5), (3, 5)), 1),
        (((3, 5, 7), (3, 5)), 2 / 3),
        (((3,), (5,)), 0),
        (((), (3,)), 0),
        (((), ()), None),
    ],
)
def test_stability_is_jaccards_index_of_what_two_halves_keep(neurons, agree):
    evidence = shown(*neurons)
    assert evidence.stability(top_layer=1) == pytest.approx(agree)
    assert evidence.stability(top_layer=0) is None  # none of them is in block 0
    both = set(map(tuple, evidence.whole().extreme_and_selective(1).nonzero().tolist()))
    assert both == {(1, neuron) for neuron in set().union(*neurons)}


def test_half_of_the_evidence_says_nothing_of_stability():
    evidence = shown((3,), (3,))
    evidence.halves[1].images = 0
    assert evidence.stability(top_layer=1) is None


@pytest.fixture
def bright_but_one(phantom):
    with_outliers = phantom.preprocess(next(iter(phantom_images(1))).image)
    return torch.cat([torch.ones(4, 3, 224, 224), with_outliers[None]])


def test_one_image_with_outliers_is_not_enough(phantom, bright_but_one):
    found = ttr.detect(phantom, bright_but_one)
    assert found.pairs == []
    assert found.message.startswith(
        "not enough outliers: 1 of 5 images (20 %) has outlier patches; needed 2 di"
    )
    assert "10 neurons would have been kept" in found.message
    assert found.provenance.stability is None
    two = ttr.detect(phantom, torch.cat([bright_but_one, other_with_outliers(phantom)]))
    assert two.pairs == list(phantom.planted)
    assert "2 of 6 images (33 %) have outlier patches; 10" in two.message
    assert "two halves of the images agree on 100 % of the neurons" in two.message


def other_with_outliers(phantom):
    return phantom.preprocess(list(phantom_images(2))[1].image)[None]


@pytest.mark.parametrize("batch_size", [1, 16])
@pytest.mark.parametrize("brighter", [0, 4 / 127.5], ids=["same", "four grey levels"])
def test_the_same_image_twice_is_one_image(phantom, bright_but_one, brighter, batch_size):
    """In one batch or in two, and as bright or nearly so: it shows once what one image shows."""
    again = bright_but_one[-1:] + brighter
    found = ttr.detect(phantom, torch.cat([bright_but_one, again]), batch_size=batch_size)
    assert found.pairs == []
    assert found.message.startswith(
        "not enough outliers: 2 of 6 images (33 %) have outlier patches, of which 1 is another one's double; "
        "needed 2 different ones"
    )
    alone = ttr.detect(phantom, bright_but_one, batch_size=batch_size)
    assert found.ranking[0].score == pytest.approx(alone.ranking[0].score, rel=1e-5)
    assert (found.provenance.images_with_outliers, found.provenance.stability) == (2, None)
    more = [bright_but_one, again, again, other_with_outliers(phantom)]
    found = ttr.detect(phantom, torch.cat(more), batch_size=batch_size)
    assert found.pairs == list(phantom.planted)
    assert "4 of 8 images (50 %) have outlier patches, of which 2 are doubles of others; 10" in found.message


def test_flat_images_are_doubles_and_different_pictures_are_not():
    flat = torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 3, 32, 32)
    noise = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    thumbs = thumbnails(torch.cat([flat, noise])).numpy()
    assert alike(thumbs[0], thumbs).tolist() == [True, True, False, False]
    assert alike(thumbs[2], thumbs).tolist() == [False, False, True, False]


def test_top_k_overrides_what_the_evidence_lacks(phantom, bright_but_one, tmp_path):
    found = ttr.detect(phantom, bright_but_one, top_k=10)
    assert found.pairs == list(phantom.planted)
    assert found.message == (
        "1 of 5 images (20 %) has outlier patches; 10 neurons kept from blocks 0..2, as many as asked"
    )
    found.save(tmp_path / "n.json")
    assert ttr.RegisterNeurons.load(tmp_path / "n.json") == found


def test_halves_that_disagree_keep_nothing(phantom, phantom_batch, monkeypatch):
    monkeypatch.setattr(Evidence, "stability", lambda *_: 0.49)
    found = ttr.detect(phantom, phantom_batch)
    assert found.pairs == []
    assert "two halves of them agree on 49 % of the neurons, needed 50 %" in found.message
    assert found.provenance.stability == 0.49
    monkeypatch.setattr(Evidence, "stability", lambda *_: 0.5)
    assert ttr.detect(phantom, phantom_batch).pairs == list(phantom.planted)
