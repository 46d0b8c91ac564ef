"""The passes behind the sweeps, and their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from ttr.run import Run
from ttr.statistics.estimates import share
from ttr.studies.tune.sweep import SHARE, sweep


def test_intervals_are_over_images_and_follow_no_batch(phantom, phantom_batch):
    samples = sweep(phantom, [], phantom_batch, run=Run(batch_size=8))
    shares = samples.values[0, :, SHARE]
    measured = samples.share(0)
    assert measured.mean == pytest.approx(shares.mean())
    found = share(shares).interval()
    assert (measured.low, measured.high) == (found.low, found.high)
    again = sweep(phantom, [], phantom_batch, run=Run(batch_size=3))
    np.testing.assert_allclose(again.values[..., SHARE], samples.values[..., SHARE])
