"""Two numbers of neuron activations, in tiles, at once and by the kernel, against sums written out."""

from __future__ import annotations

import pytest
import torch

from ttr.registers import activity, tried
from ttr.registers.activity import Activity, sums_and_quiet
from ttr.tokens import TokenLayout


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("tile", [1, 17 * 70, 17 * 96 * 2, 2**40])
def test_tiles_of_any_size_give_the_sums_and_numbers_of_all_tokens(monkeypatch, kind, tile):
    monkeypatch.setattr(activity, "TILE", tile)
    x = torch.randn(3, 17, 192, generator=torch.Generator().manual_seed(0)).to(kind)[..., :96]
    x[:, :, 0] = 0.5  # not below it
    sums, quiet = sums_and_quiet(x, slice(5, 17))
    torch.testing.assert_close(sums.double(), x[:, 5:].double().abs().sum(dim=1), rtol=1e-5, atol=0)
    assert torch.equal(quiet.long(), (x < 0.5).sum(dim=1))
    assert not quiet[:, 0].any()


def test_a_neuron_is_sparse_if_half_of_all_tokens_are_quiet_and_each_is_without_the_filter():
    x = torch.ones(1, 6, 2)
    x[0, :3, 0] = x[0, :2, 1] = 0
    for sparsity, expected in ((True, [True, False]), (False, [True, True])):
        seen = Activity(TokenLayout(cls=1, registers=1, test_time=0, grid=(2, 2)), sparsity)
        seen(0, x)
        sums, sparse = seen.of(torch.tensor([0]))
        assert sparse.tolist() == [[expected]]
        assert sums.tolist() == [[[3, 4]]]


@pytest.mark.filterwarnings("ignore:detection runs in plain PyTorch")
def test_where_no_kernel_can_be_built_there_is_none(monkeypatch):
    monkeypatch.setattr(tried, "_KNOWN", {})
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    works = tried.kernel_works("detection", torch.device("cuda", 0), activity._counts)
    assert not works or torch.cuda.is_available()
