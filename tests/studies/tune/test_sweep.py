"""The passes behind the sweeps, and their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from ttr.run import Run
from ttr.studies.tune.sweep import NORM, SHARE, sweep
from ttr.studies.tune.tuning import (
    sweep_neurons,
)


@pytest.fixture(scope="module")
def swept(phantom, phantom_batch, ranking):
    return sweep_neurons(phantom, ranking, phantom_batch[4:], top_k=[1, 8, 9, 10, 12], top_layers=[1, 2])


def test_intervals_resample_images_and_follow_the_seed(phantom, phantom_batch):
    """The bootstrap's standard error of a mean is the closed form s / sqrt(n)."""
    samples = sweep(phantom, [], phantom_batch, run=Run(seed=3, batch_size=8))
    norms = samples.values[0, :, NORM]
    drawn = samples.resampled[:, 0, NORM]
    assert drawn.std() == pytest.approx(norms.std() / len(norms) ** 0.5, rel=0.1)
    measured = samples.measure(0, NORM)
    assert (measured.low, measured.high) == pytest.approx(tuple(np.percentile(drawn, (2.5, 97.5))))
    assert norms.min() < measured.low < measured.mean < measured.high < norms.max()
    again = sweep(phantom, [], phantom_batch, run=Run(seed=3, batch_size=3))
    np.testing.assert_allclose(again.resampled[..., SHARE], samples.resampled[..., SHARE])
    other = sweep(phantom, [], phantom_batch, run=Run(seed=4, batch_size=8)).resampled[..., NORM]
    assert not np.allclose(other, samples.resampled[..., NORM])
