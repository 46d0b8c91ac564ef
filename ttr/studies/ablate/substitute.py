"""What stands in for a token: five pure functions from a block's output to the replaced tokens.

    zero      0                                  nothing that the network ever met
    mean      mu_l                               the block's mean over a calibration set: no image in it
    noise     mu_l + sigma_l * eps               Gaussian, mean and variance of each block and dimension
    shuffle   the token of another image         of the batch, by a derangement drawn anew at each block
    resample  the token of a calibration image   drawn anew for each image and block

Who may give to whom is said by :mod:`ttr.studies.ablate.donors`.

A replacement is plausible when the network could have met it. If the task survives mean, noise, shuffle and
resample, it did not depend on what the token said of this image, only on its being there; zeroing cannot tell
the two apart (Parodi et al. 2026, arXiv 2604.14433).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ttr.errors import OptionError
from ttr.studies.ablate.conditions import Condition

if TYPE_CHECKING:
    from ttr.forward.calibration import Calibration


def positions(condition: Condition, batch: int, generator: torch.Generator) -> Tensor:
    """Return which tokens of each image a condition replaces, int64 [B, k]; random patches are drawn here."""
    tokens = torch.tensor(condition.where, dtype=torch.int64)
    if not condition.random:
        return tokens.expand(batch, -1)
    drawn = torch.rand(batch, len(tokens), generator=generator).argsort(dim=1)
    return tokens[drawn[:, : condition.random]].sort(dim=1).values


def substitute(
    x: Tensor,
    block: int,
    where: Tensor,
    kind: str,
    *,
    calibration: Calibration | None = None,
    generator: torch.Generator | None = None,
    donors: Tensor | None = None,
) -> Tensor:
    """Return a copy of a block's output with some tokens replaced.

    Args:
        x: tokens [B, N, D].
        block: which block's output it is, for the calibration.
        where: the tokens to replace, int64 [B, k].
        kind: of :data:`ttr.studies.ablate.conditions.SUBSTITUTES`.
        calibration: for ``mean``, ``noise`` and ``resample``.
        generator: on the CPU, for ``noise``.
        donors: whose token each image takes, int64 [B]: for ``shuffle`` images of the batch, for ``resample``
            those of the calibration's bank.

    Raises:
        OptionError: a substitute without the calibration that it needs.
    """
    index = where.to(x.device)[..., None].expand(-1, -1, x.shape[2])
    if kind == "zero":
        new = x.new_zeros(index.shape)
    elif kind == "shuffle":
        assert donors is not None
        new = x[donors.to(x.device)].gather(1, index)
    else:
        if calibration is None:
            raise OptionError(
                f"substitute {kind!r} needs a calibration; make one with ttr.forward.calibration.calibrate"
            )
        new = _calibrated(kind, block, where, calibration, generator, donors).to(x)
    return x.scatter(1, index, new)


def _calibrated(
    kind: str,
    block: int,
    where: Tensor,
    calibration: Calibration,
    generator: torch.Generator | None,
    donors: Tensor | None,
) -> Tensor:
    """Return the replacing tokens, float32 [B, k, D]."""
    slots = calibration.slots(where)
    if kind == "resample":
        assert donors is not None
        return calibration.bank[donors[:, None], block, slots]
    mean = calibration.mean[block][slots]
    if kind == "mean":
        return mean
    assert generator is not None
    noise = torch.randn(mean.shape, generator=generator)
    return mean + calibration.variance[block][slots].sqrt() * noise
