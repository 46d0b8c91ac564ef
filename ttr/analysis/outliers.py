"""How far patches stand out, at every block: outliers can appear in the middle of a model, and vanish again.

Of the norms n_t of an image's patches at a block's output, with their median m and the threshold T of
:mod:`ttr.norms`, four numbers:

    share     patches with n_t > T, over all patches
    excess    sum over outliers of (n_t - m), over the sum of all n_t: how much of the length of all patches
              outliers hold beyond the ordinary. 0 without any, towards 1 where they hold nearly all
    median    m
    largest   max n_t

A share does not tell a patch of twice the ordinary norm from one of a hundred times; the excess does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttr.norms import Threshold, outlier_threshold

#: Places of the four numbers.
SHARE, EXCESS, MEDIAN, LARGEST = range(4)


def outliers_by_block(norms: Tensor, threshold: Threshold = "auto") -> Tensor:
    """Return share, excess, median and largest norm of each image's patches at each block.

    Args:
        norms: of the patches alone, float32 [L, B, P].
        threshold: above which a patch is an outlier, taken image by image and block by block.

    Returns:
        Float64 [B, L, 4], on the host; share and excess are 0..1.

    Raises:
        OptionError: the threshold is neither a positive number nor a rule's name.
    """
    outlying = norms > outlier_threshold(norms, threshold)[..., None]
    median = norms.median(dim=-1).values
    # On the host: a device need not have float64.
    wide, outlying, middle = norms.cpu().double(), outlying.cpu(), median.cpu().double()
    beyond = ((wide - middle[..., None]) * outlying).sum(dim=-1)
    tiny = torch.finfo(torch.float64).tiny
    numbers = (
        outlying.double().mean(dim=-1),
        beyond / wide.sum(dim=-1).clamp(min=tiny),
        middle,
        wide.amax(dim=-1),
    )
    return torch.stack(numbers, dim=-1).transpose(0, 1)
