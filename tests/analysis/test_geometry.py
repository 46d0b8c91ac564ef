"""Effective rank and patch cosine against scipy, closed forms, and their laws."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cosine
from scipy.stats import entropy, ortho_group

from ttr.analysis.geometry import effective_rank, effective_ranks, patch_cosine
from ttr.errors import ModelError, OptionError

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6))


def patches(batch: int, count: int, width: int, seed: int = 0) -> torch.Tensor:
    x = torch.randn(batch, count, width, generator=torch.Generator().manual_seed(seed))
    return x * torch.arange(1.0, width + 1)  # an uneven spectrum


@given(SHAPES)
def test_it_is_the_entropy_of_scipys_spectrum_and_lies_in_its_range(shape):
    x = patches(*shape)
    found = effective_rank(x)
    assert found.dtype == torch.float64
    for value, image in zip(found.tolist(), x.double().numpy(), strict=True):
        squared = scipy.linalg.svdvals(image) ** 2
        assert value == pytest.approx(np.exp(entropy(squared)), rel=1e-9)
        assert 1 - 1e-12 <= value <= min(shape[1:3]) + 1e-9


@given(SHAPES, st.floats(1e-3, 1e3))
def test_scale_rotation_order_and_doubling_leave_it_alone(shape, scale):
    x = patches(*shape).double()
    expected = effective_rank(x)
    rotation = ortho_group.rvs(shape[2], random_state=shape[3]) if shape[2] > 1 else np.eye(1)
    order = torch.randperm(shape[1], generator=torch.Generator().manual_seed(shape[3]))
    for same in (x * scale, x @ torch.from_numpy(rotation), x[:, order], torch.cat([x, x], dim=1)):
        torch.testing.assert_close(effective_rank(same), expected, rtol=1e-9, atol=0)


def test_closed_forms():
    even = torch.eye(6)[None]
    one_way = torch.ones(1, 6, 4)
    two = torch.zeros(1, 4, 5)
    two[0, :3, 0], two[0, 3, 1] = 1, 1  # eigenvalues 3 and 1
    assert float(effective_rank(even)) == pytest.approx(6)
    assert float(effective_rank(one_way)) == pytest.approx(1)
    assert float(effective_rank(two)) == pytest.approx(np.exp(entropy([3, 1])))
    assert effective_rank(torch.zeros(2, 3, 4)).isnan().all()


@given(SHAPES)
def test_the_three_readings_are_scipys(shape):
    x = patches(*shape)
    found = effective_ranks(x)
    torch.testing.assert_close(found["effective_rank"], effective_rank(x), rtol=0, atol=0)
    for index, image in enumerate(x.double().numpy()):
        centred = scipy.linalg.svdvals(image - image.mean(axis=0)) ** 2
        singular = found["effective_rank_singular"][index]
        assert float(singular) == pytest.approx(np.exp(entropy(scipy.linalg.svdvals(image))), rel=1e-5)
        assert found["effective_rank"][index] <= singular * (1 + 1e-6)
        if len(image) > 1:
            expected = pytest.approx(np.exp(entropy(centred)), rel=1e-6)
            assert float(found["effective_rank_centred"][index]) == expected


def test_closed_forms_of_the_readings():
    two = torch.zeros(1, 4, 5)
    two[0, :3, 0], two[0, 3, 1] = 1, 1  # singular values sqrt 3 and 1; centred, one direction is left
    found = {name: float(rank) for name, rank in effective_ranks(two).items()}
    assert found == {
        "effective_rank": pytest.approx(np.exp(entropy([3, 1]))),
        "effective_rank_centred": pytest.approx(1),
        "effective_rank_singular": pytest.approx(np.exp(entropy([3**0.5, 1]))),
    }
    assert effective_ranks(torch.ones(1, 4, 5))["effective_rank_centred"].isnan().all()
    assert float(effective_ranks(torch.ones(1, 6, 4))["effective_rank_singular"]) == pytest.approx(1)


def test_it_is_not_centred():
    """A shared direction that dwarfs the rest counts: the rank falls towards 1."""
    x = patches(1, 20, 8)
    assert float(effective_rank(x + 1e4)) < 1.01 < float(effective_rank(x))


def test_a_batch_equals_its_images_and_half_precision_is_widened():
    x = patches(4, 30, 12)
    alone = torch.cat([effective_rank(image[None]) for image in x])
    torch.testing.assert_close(effective_rank(x), alone)
    half = x.bfloat16()
    torch.testing.assert_close(effective_rank(half), effective_rank(half.double()), rtol=0, atol=0)


def test_patch_cosine_is_scipys():
    a, b = patches(2, 5, 7), patches(2, 5, 7, seed=1)
    found = patch_cosine(a, b)
    expected = [[1 - cosine(p, q) for p, q in zip(*pair, strict=True)] for pair in zip(a, b, strict=True)]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    assert found.dtype == patch_cosine(a.bfloat16(), b.bfloat16()).dtype == torch.float32
    assert patch_cosine(a, a).allclose(torch.ones(2, 5))
    assert patch_cosine(a, -3 * a).allclose(-torch.ones(2, 5))
    assert not patch_cosine(a, torch.zeros_like(a)).any()
    assert patch_cosine(a, a).max() <= 1


def test_bad_patches_are_refused():
    with pytest.raises(OptionError, match=r"shape \(3, 4\); needed \[B, P, D\]"):
        effective_rank(torch.ones(3, 4))
    with pytest.raises(OptionError, match="none of them 0"):
        effective_rank(torch.ones(3, 0, 4))
    with pytest.raises(OptionError, match="needed the same of both runs"):
        patch_cosine(torch.ones(1, 3, 4), torch.ones(1, 2, 4))
    with pytest.raises(ModelError, match="NaN or infinite"):
        effective_rank(torch.full((1, 3, 4), float("nan")))
