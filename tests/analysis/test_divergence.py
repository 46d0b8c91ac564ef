"""The divergence against scipy's, its laws, and two runs with different tokens."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon

from ttr.analysis.divergence import js_divergence, on_one_support
from ttr.errors import OptionError
from ttr.tokens import TokenLayout

MASSES = arrays(np.float64, (2, 7), elements=st.one_of(st.just(0.0), st.floats(1e-12, 1e3)))


def distributions(masses: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    masses[:, 0] += 1e-9  # some mass to divide
    p, q = torch.from_numpy(masses / masses.sum(axis=1, keepdims=True))
    return p, q


@given(MASSES)
def test_it_is_scipys_squared_distance_zeros_and_all(masses):
    p, q = distributions(masses)
    expected = jensenshannon(p.numpy(), q.numpy()) ** 2
    assert float(js_divergence(p, q)) == pytest.approx(expected, rel=1e-7, abs=1e-12)
    assert float(js_divergence(p.float(), q.float())) == pytest.approx(expected, rel=1e-3, abs=1e-6)


@given(MASSES)
def test_it_is_symmetric_bounded_and_zero_for_equals(masses):
    p, q = distributions(masses)
    found = float(js_divergence(p, q))
    assert found == float(js_divergence(q, p))
    assert 0 <= found <= math.log(2)
    assert float(js_divergence(p, p)) == 0


@given(MASSES, st.integers(0, 3))
def test_tokens_that_neither_has_and_the_order_of_tokens_do_not_matter(masses, extra):
    p, q = distributions(masses)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    padded = [torch.cat([each[order], each.new_zeros(extra)]) for each in (p, q)]
    assert float(js_divergence(*padded)) == pytest.approx(float(js_divergence(p, q)), rel=1e-12, abs=1e-15)


def test_disjoint_distributions_are_ln_2_apart():
    p = torch.tensor([[0.5, 0.5, 0, 0], [1, 0, 0, 0]])
    q = torch.tensor([[0, 0, 0.1, 0.9], [0, 0, 0, 1]])
    assert js_divergence(p, q).tolist() == pytest.approx([math.log(2)] * 2, rel=1e-6)


def test_small_divergences_survive_float32():
    """Relative changes of 1e-4: JS near 1e-9, far below what the difference of entropies resolves."""
    random = np.random.default_rng(0)
    p = random.dirichlet(np.ones(200)).astype(np.float32)
    q = p * (1 + 1e-4 * random.standard_normal(200)).astype(np.float32)
    exact = js_divergence(torch.from_numpy(p).double(), torch.from_numpy(q).double())
    assert 1e-10 < float(exact) < 1e-8
    found = js_divergence(torch.from_numpy(p), torch.from_numpy(q))
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(exact), rel=1e-3)
    wide = p.astype(np.float64), q.astype(np.float64)
    # A perturbation of size e is sum p e^2 / 8 apart, to second order.
    second_order = ((wide[1] - wide[0]) ** 2 / wide[0]).sum() / 8
    assert float(exact) == pytest.approx(second_order, rel=1e-3)


def test_half_precision_is_widened():
    p = torch.tensor([0.5, 0.5], dtype=torch.bfloat16)
    q = torch.tensor([0.25, 0.75], dtype=torch.bfloat16)
    found = js_divergence(p, q)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(jensenshannon([0.5, 0.5], [0.25, 0.75]) ** 2, rel=1e-6)


def test_one_support_pads_what_a_run_lacks_where_it_would_stand():
    bare = TokenLayout(1, 2, 0, (1, 2))
    wrapped = bare.with_test_time(2)
    p, q = torch.arange(1.0, 6), torch.arange(10.0, 17)
    a, b = on_one_support(p, bare, q, wrapped)
    assert a.tolist() == [1, 2, 3, 0, 0, 4, 5]
    assert torch.equal(b, q)
    b, a = on_one_support(q, wrapped, p, bare)
    assert a.tolist() == [1, 2, 3, 0, 0, 4, 5]
    plain, registered = TokenLayout(1, 0, 1, (1, 2)), TokenLayout(0, 2, 0, (1, 2))
    a, b = on_one_support(torch.arange(1.0, 5), plain, torch.arange(10.0, 14), registered)
    assert a.tolist() == [1, 0, 0, 2, 3, 4]
    assert b.tolist() == [0, 10, 11, 0, 12, 13]


@given(st.integers(0, 3), st.integers(0, 3))
def test_padding_keeps_every_mass_and_the_axes_before(first, second):
    layout = TokenLayout(1, 4, 0, (2, 3))
    sizes = [layout.with_test_time(count) for count in (first, second)]
    p, q = (torch.rand(2, 3, size.length).softmax(-1) for size in sizes)
    a, b = on_one_support(p, sizes[0], q, sizes[1])
    assert a.shape == b.shape == (2, 3, layout.length + max(first, second))
    torch.testing.assert_close(a.sum(-1), p.sum(-1))
    torch.testing.assert_close(b.sum(-1), q.sum(-1))


def test_other_supports_are_refused():
    layout = TokenLayout(1, 0, 0, (2, 2))
    with pytest.raises(OptionError, match=r"\(5,\) and \(6,\) tokens.*on_one_support"):
        js_divergence(torch.ones(2, 5), torch.ones(2, 6))
    with pytest.raises(OptionError, match=r"\(2, 2\) and \(2, 3\).*one image size"):
        on_one_support(torch.ones(5), layout, torch.ones(7), TokenLayout(1, 0, 0, (2, 3)))
    with pytest.raises(OptionError, match="got 6 tokens, but the layout has 5"):
        on_one_support(torch.ones(5), layout, torch.ones(6), layout)
