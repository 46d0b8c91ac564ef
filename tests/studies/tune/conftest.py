"""The ranking that the sweeps of this study start from."""

from __future__ import annotations

import pytest

import ttr


@pytest.fixture(scope="module")
def ranking(phantom, phantom_batch):
    return ttr.detect(phantom, phantom_batch[:4])
