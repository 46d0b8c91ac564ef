"""What a shuffle leaves of a block, and that the model is whole again afterwards, whatever happens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ttr
from tests.tools.tiny_models import FAMILIES, scramble
from ttr.evaluate.randomisation import complexity, rank_correlation, rise, shuffling


@pytest.mark.parametrize("family", ["timm-vit", "open-clip", "transformers-dinov2-reg4"])
def test_a_shuffle_keeps_the_numbers_of_each_tensor_and_is_undone_to_the_bit(family):
    backbone = ttr.adapt(scramble(FAMILIES[family]()))
    blocks = [site.module for site in backbone.sites.blocks]
    whole = {name: each.clone() for name, each in backbone.model.state_dict().items()}
    with pytest.raises(RuntimeError, match="stop"), shuffling(backbone, 3) as shuffle:
        shuffle(1)
        first = [each.clone() for each in blocks[1].parameters()]
        shuffle(0)
        shuffle(1)
        for own, drawn in zip(blocks[1].parameters(), first, strict=True):
            assert torch.equal(own.flatten().sort().values, drawn.flatten().sort().values)
        moved = [not torch.equal(whole[name], each) for name, each in backbone.model.state_dict().items()]
        assert any(moved)
        assert not all(moved), "what stands outside of the blocks stays"
        raise RuntimeError("stop")
    assert all(torch.equal(whole[name], each) for name, each in backbone.model.state_dict().items())
    with shuffling(backbone, 3) as shuffle:
        shuffle(1)
        for own, drawn in zip(blocks[1].parameters(), first, strict=True):
            assert torch.equal(own, drawn), "one seed shuffles alike"


def test_maps_are_compared_by_their_ranks():
    relevance = np.random.default_rng(0).random((4, 5))
    assert rank_correlation(relevance, np.exp(9 * relevance)) == pytest.approx(1)
    assert rank_correlation(relevance, -relevance) == pytest.approx(-1)
    assert rank_correlation(np.zeros((2, 2)), np.ones((2, 2))) == 1
    assert rank_correlation(np.zeros((2, 2)), np.eye(2)) == 0


def test_complexity_is_the_entropy_of_a_histogram_and_rises_by_its_share():
    """Sixteen numbers in bins of their own, then eight in one bin: by hand."""
    apart = np.arange(16.0).reshape(4, 4)
    together = np.where(apart < 8, 0.0, apart)
    assert complexity(apart) == pytest.approx(np.log(16))
    assert complexity(together) == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(16))
    assert complexity(np.full((3, 3), 7.0)) == 0
    before, after = complexity(together), complexity(apart)
    np.testing.assert_allclose(rise([together, apart], [apart, apart]), [(after - before) / before, 0])
    assert np.isnan(rise([np.zeros((2, 2))], [apart])).all()
