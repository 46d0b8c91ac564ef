"""What stands in for a token: the laws of the five substitutes, against closed forms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ttr.errors import OptionError
from ttr.forward.calibration import Calibration
from ttr.studies.ablate.conditions import Condition
from ttr.studies.ablate.donors import draw_donors, draw_from_bank, may_give, strangers
from ttr.studies.ablate.substitute import positions, substitute

BLOCKS, SLOTS, WIDTH, BANK = 2, 4, 5, 7


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    draw = generator(3)
    shape = (BLOCKS, SLOTS, WIDTH)
    mean, variance = torch.randn(shape, generator=draw), torch.rand(shape, generator=draw)
    return Calibration(mean, variance, torch.randn(BANK, *shape, generator=draw), images=9)


def tokens(batch: int = 6, length: int = 9) -> torch.Tensor:
    return torch.randn(batch, length, WIDTH, generator=generator(1))


def at(batch: int, *where: int) -> torch.Tensor:
    return torch.tensor(where).expand(batch, -1)


def others(batch: int, seed: int = 0) -> torch.Tensor:
    cases = strangers("batch", batch)
    return draw_donors(may_give(cases, cases), generator(seed))


def banked(batch: int, seed: int = 0) -> torch.Tensor:
    allowed = may_give(strangers("batch", batch), strangers("bank", BANK))
    return draw_from_bank(allowed, generator(seed))


@pytest.mark.parametrize("kind", ["zero", "mean", "noise", "shuffle", "resample"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_only_the_named_tokens_change_and_the_input_never(calibration, kind, dtype):
    x = tokens().to(dtype)
    before = x.clone()
    new = substitute(
        x, 1, at(6, 1, 2), kind, calibration=calibration, generator=generator(), donors=others(6)
    )
    assert new.dtype == dtype
    assert torch.equal(x, before)
    assert torch.equal(new[:, [0, 3, 4, 5, 6, 7, 8]], x[:, [0, 3, 4, 5, 6, 7, 8]])
    assert not torch.equal(new[:, 1:3], x[:, 1:3])


def test_zero_and_mean_are_what_they_say(calibration):
    x = tokens()
    assert substitute(x, 0, at(6, 2), "zero")[:, 2].abs().max() == 0
    new = substitute(x, 1, at(6, 0, 2), "mean", calibration=calibration)
    assert torch.equal(new[:, [0, 2]], calibration.mean[1, [0, 2]].expand(6, -1, -1))


def test_patches_share_the_last_slot(calibration):
    new = substitute(tokens(), 0, at(6, 5, 8), "mean", calibration=calibration)
    assert torch.equal(new[:, [5, 8]], calibration.mean[0, [3, 3]].expand(6, -1, -1))


def test_noise_has_the_mean_and_variance_of_each_dimension(calibration):
    count = 40_000
    x = torch.zeros(count, 2, WIDTH)
    new = substitute(x, 1, at(count, 1), "noise", calibration=calibration, generator=generator())[
        :, 1
    ].double()
    mean, variance = calibration.mean[1, 1].double(), calibration.variance[1, 1].double()
    assert ((new.mean(dim=0) - mean).abs() < 5 * (variance / count).sqrt()).all()
    assert ((new.var(dim=0) - variance).abs() < 5 * variance * (2 / count) ** 0.5).all()


def test_resampled_tokens_lie_in_the_bank_and_come_from_one_image_each(calibration):
    new = substitute(tokens(50), 1, at(50, 0, 2), "resample", calibration=calibration, donors=banked(50))
    bank = calibration.bank[:, 1][:, [0, 2]]
    found = [(bank == image).all(dim=(1, 2)).nonzero().flatten().tolist() for image in new[:, [0, 2]]]
    assert all(len(which) == 1 for which in found)
    assert len({which[0] for which in found}) == BANK


@given(st.integers(2, 12), st.integers(0, 2**31))
def test_shuffling_never_leaves_an_image_its_own_token(batch, seed):
    x = torch.arange(batch * 3.0).reshape(batch, 3, 1)
    new = substitute(x, 0, at(batch, 1, 2), "shuffle", donors=others(batch, seed))
    for position in (1, 2):
        assert (new[:, position] != x[:, position]).all()
        assert torch.equal(new[:, position].sort(dim=0).values, x[:, position].sort(dim=0).values)
    # All the tokens of an image come from one other image.
    assert torch.equal(new[:, 2] - new[:, 1], x[:, 2] - x[:, 1])


def test_random_patches_are_drawn_anew_for_each_image_and_alike_for_each_seed():
    condition = Condition("patches-3:zero", "zero", range(2, 10), random=3, blocks=(0,))
    drawn = positions(condition, 200, generator())
    assert drawn.shape == (200, 3)
    assert drawn.min() == 2
    assert drawn.max() == 9
    assert all(len(set(row)) == 3 for row in drawn.tolist())
    assert len({tuple(row) for row in drawn.tolist()}) > 30
    assert torch.equal(drawn, positions(condition, 200, generator()))


def test_what_cannot_be_done_is_refused(calibration):
    with pytest.raises(OptionError, match="'noise' needs a calibration"):
        substitute(tokens(), 0, at(6, 1), "noise", generator=generator())
