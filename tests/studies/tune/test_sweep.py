"""The passes behind the sweeps, and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from ttr.run import Run
from ttr.studies.tune.sweep import SHARE, sweep


def test_intervals_are_over_images_and_follow_no_batch(phantom, phantom_batch):
    samples = sweep(phantom, [], phantom_batch, run=Run(batch_size=8))
    shares = samples.values[0, :, SHARE]
    measured = samples.share(0)
    assert measured.mean == pytest.approx(shares.mean())
    error = shares.std(ddof=1) / len(shares) ** 0.5
    half = scipy.stats.t.ppf(0.975, len(shares) - 1) * error
    assert measured.high - measured.low == pytest.approx(2 * half, rel=0.5)
    assert measured.low < measured.mean < measured.high
    again = sweep(phantom, [], phantom_batch, run=Run(batch_size=3))
    np.testing.assert_allclose(again.values, samples.values, rtol=1e-4, equal_nan=True)
