"""Outliers without a threshold of norm: the smaller of two clusters of an image's patches.

Two-means (Lloyd 1982) on the patch tokens, begun at the patch farthest from the mean and at the one farthest
from that. Two clusters can be made of anything, so they count only where they hold half of the variance:

    1 - sum_t |x_t - c(t)|^2 / sum_t |x_t - mean|^2 >= 1/2.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 20
SEPARATED = 0.5


def smaller_cluster(patches: Tensor) -> Tensor:
    """Return which patches [B, P, D] are of the smaller of two clusters, bool [B, P]; of an image whose
    clusters are not apart, none."""
    x = patches.float()
    middle = x.mean(dim=1, keepdim=True)
    away = (x - middle).square().sum(dim=2)
    first = _at(x, away.argmax(dim=1))
    second = _at(x, (x - first).square().sum(dim=2).argmax(dim=1))
    centres = torch.cat([first, second], dim=1)
    for _ in range(ROUNDS):
        one = _nearer_first(x, centres)
        members = torch.stack([one, ~one], dim=1).float()
        held = members.sum(dim=2, keepdim=True)
        centres = torch.where(held > 0, members @ x / held.clamp(min=1), centres)
    one = _nearer_first(x, centres)
    left = (x - torch.where(one[..., None], centres[:, :1], centres[:, 1:])).square().sum(dim=(1, 2))
    apart = left <= (1 - SEPARATED) * away.sum(dim=1)
    smaller = torch.where((one.sum(dim=1) <= one.shape[1] / 2)[:, None], one, ~one)
    return smaller & (apart & (away.amax(dim=1) > 0))[:, None]


def _at(x: Tensor, places: Tensor) -> Tensor:
    """Return one token of each image, [B, 1, D]."""
    return x[torch.arange(len(x), device=x.device), places][:, None]


def _nearer_first(x: Tensor, centres: Tensor) -> Tensor:
    """Return which tokens are nearer to the first of two centres [B, 2, D], bool [B, N]."""
    first, second = ((x - centres[:, n : n + 1]).square().sum(dim=2) for n in (0, 1))
    return first < second
