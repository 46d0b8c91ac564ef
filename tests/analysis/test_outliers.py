"""Four numbers an image and block, against one patch at a time."""

from __future__ import annotations

import statistics

import pytest
import torch

from ttr.analysis.outliers import outliers_by_block
from ttr.errors import OptionError


@pytest.mark.parametrize("threshold", ["auto", "mean+3sd", 2.5])
def test_numbers_are_those_of_one_patch_at_a_time(threshold):
    norms = torch.rand(3, 4, 25, generator=torch.Generator().manual_seed(0)) + 1
    norms[1, :, 3:5] += 40  # the second block alone
    norms[1, 2, 7] = 4.5
    found = outliers_by_block(norms, threshold)
    assert found.dtype == torch.float64
    assert found.shape == (4, 3, 4)
    for block in range(3):
        for image in range(4):
            patches = norms[block, image].tolist()
            middle = statistics.median(patches)
            mad = statistics.median(abs(each - middle) for each in patches)
            limit = {
                "auto": max(middle + 3 * 1.4826 * mad, 2 * middle),
                "mean+3sd": statistics.fmean(patches) + 3 * statistics.pstdev(patches),
            }.get(threshold, threshold)
            outliers = [each for each in patches if each > limit]
            expected = [
                len(outliers) / 25,
                sum(each - middle for each in outliers) / sum(patches),
                middle,
                max(patches),
            ]
            assert found[image, block].tolist() == pytest.approx(expected, rel=1e-6)


def test_a_map_without_length_has_no_excess_and_a_rule_must_be_known():
    assert outliers_by_block(torch.zeros(2, 1, 9)).abs().sum() == 0
    with pytest.raises(OptionError, match="needed a positive norm"):
        outliers_by_block(torch.ones(1, 1, 9), "mean")
