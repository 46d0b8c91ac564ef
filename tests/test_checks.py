"""Tensors of all kinds against what counts as weights: dense, real, finite floats with values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ttr import checks
from ttr.errors import ModelError

pytestmark = pytest.mark.filterwarnings("ignore:.*(Sparse CSR|quantize_per_tensor)")
ONES = torch.ones(2, 3)
NO_FLOATS = {
    "of type ndarray": lambda: np.ones((2, 3)),
    "of type list": lambda: [1.0],
    "of type int64": ONES.long,
    "of type bool": ONES.bool,
    "of type complex64": ONES.cfloat,
    "of type float8_e4m3fn": lambda: ONES.to(torch.float8_e4m3fn),
    r"not dense \(sparse_coo\)": ONES.to_sparse,
    r"not dense \(sparse_csr\)": ONES.to_sparse_csr,
    r"quantised \(qint8\)": lambda: torch.quantize_per_tensor(ONES, 0.1, 0, torch.qint8),
    "meta device": lambda: ONES.to("meta"),
}


@pytest.mark.parametrize("complaint", NO_FLOATS)
def test_what_is_no_dense_float_is_refused_by_name(complaint):
    with pytest.raises(
        ModelError, match=rf"^b of x\.pth (is|lies on the) {complaint}.*; needed a dense tensor of"
    ):
        checks.floats("x.pth", {"a": ONES, "b": NO_FLOATS[complaint]()})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_values_that_are_not_finite_are_counted_by_name(dtype):
    good = torch.full((4, 500), torch.finfo(dtype).max, dtype=dtype)
    checks.floats("it", {"a": good})
    checks.finite("it", {"a": good, "none": good[:0], "whole": torch.arange(3)})
    bad = good.clone()
    bad[1, :2], bad[3, 7] = torch.nan, -torch.inf
    message = r"^b of it holds 2 NaN and 1 infinite of 2,000 values; needed finite ones"
    with pytest.raises(ModelError, match=message):
        checks.finite("it", {"a": good, "b": bad})


def test_masks_may_be_infinite_but_not_nan():
    mask = torch.full((3, 3), -torch.inf).triu(1)
    checks.finite("it", {"mask": mask}, masks=True)
    mask[2, 0] = torch.nan
    with pytest.raises(ModelError, match="mask of it holds 1 NaN of 9 values"):
        checks.finite("it", {"mask": mask}, masks=True)
