import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import median_abs_deviation

from ttr.errors import OptionError
from ttr.norms import outlier_threshold, token_norms


def ordinary(count: int = 196, seed: int = 0) -> torch.Tensor:
    return 12 + torch.randn(3, count, generator=torch.Generator().manual_seed(seed))


def test_norms_equal_numpys_and_are_float32_even_in_half_precision():
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(token_norms(x).numpy(), np.linalg.norm(x.numpy(), axis=-1), rtol=1e-6)
    huge = torch.full((1, 1, 1024), 600.0, dtype=torch.float16)
    assert token_norms(huge).dtype == torch.float32
    assert float(token_norms(huge)) == pytest.approx(600 * 32)


def test_auto_is_the_stated_formula_against_scipy():
    norms = ordinary(195)
    median = np.median(norms.numpy(), axis=1)
    spread = median_abs_deviation(norms.numpy(), axis=1, scale=1 / 1.4826)
    expected = np.maximum(median + 3 * spread, 2 * median)
    np.testing.assert_allclose(outlier_threshold(norms).numpy(), expected, rtol=1e-5)


def test_mean_plus_three_sd_against_numpy():
    norms = ordinary().numpy()
    found = outlier_threshold(torch.from_numpy(norms), "mean+3sd").numpy()
    np.testing.assert_allclose(found, norms.mean(1) + 3 * norms.std(1), rtol=1e-6)


@given(st.floats(0.01, 0.4), st.floats(3, 40))
def test_auto_finds_the_outliers_at_any_share_and_nothing_on_a_clean_map(share, factor):
    norms = ordinary()
    assert not (norms > outlier_threshold(norms)[:, None]).any()
    count = max(1, int(share * norms.shape[1]))
    norms[:, :count] *= factor
    found = norms > outlier_threshold(norms)[:, None]
    assert found[:, :count].all()
    assert not found[:, count:].any()


def test_why_auto_is_not_mean_plus_three_sd():
    masked = ordinary()
    masked[:, :24] = 120.0  # 12 % outliers hide themselves from mean + 3 SD
    assert not (masked > outlier_threshold(masked, "mean+3sd")[:, None]).any()
    skewed = 12 + torch.empty(3, 196).exponential_(generator=torch.Generator().manual_seed(0))
    assert (skewed > outlier_threshold(skewed, "mean+3sd")[:, None]).any()
    assert not (skewed > outlier_threshold(skewed)[:, None]).any()


def test_a_number_is_taken_as_it_is():
    assert outlier_threshold(ordinary(), 75).tolist() == [75.0] * 3


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf"), "high", True, None])
def test_other_thresholds_are_refused(bad):
    with pytest.raises(OptionError, match="needed a positive norm"):
        outlier_threshold(ordinary(), bad)
