"""The geometry of the patches: how many directions they use, and how far an ablation turns them.

Effective rank is Roy and Vetterli's (2007, EUSIPCO): the exponential of the entropy of the normalised
spectrum. The spectrum here is that of the patch Gram matrix G = X X^T of the patches as they are, not
centred and not normalised: its eigenvalues l_i, which are the squared singular values of X,

    effective rank = exp(-sum p_i ln p_i),     p_i = l_i / sum l.

It is 1 when all patches point one way and min(P, D) when they fill the space evenly. The mean patch counts
as a direction (a centred Gram matrix would take it out), and long patches count for more than short ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ttr.errors import ModelError, OptionError


@torch.no_grad()
def effective_rank(patches: Tensor) -> Tensor:
    """Return the effective rank of each image's patch Gram matrix.

    Args:
        patches: float [B, P, D].

    Returns:
        Float64 [B], 1..min(P, D); NaN for an image whose patches are all zero.

    Raises:
        OptionError: not [B, P, D].
        ModelError: patches that are not finite.
    """
    _check(patches)
    if not patches.isfinite().all():
        raise ModelError(
            "patches hold NaN or infinite values; look for the images or the type that made them"
        )
    # Apple's GPUs have no float64.
    x = (patches.cpu() if patches.device.type == "mps" else patches).double()
    # X X^T and X^T X have the same eigenvalues but for zeros; the smaller one is the cheaper.
    gram = x @ x.mT if x.shape[1] <= x.shape[2] else x.mT @ x
    spectrum = torch.linalg.eigvalsh(gram).clamp(min=0)
    shares = spectrum / spectrum.sum(dim=-1, keepdim=True)
    return torch.special.entr(shares).sum(dim=-1).exp()


@torch.no_grad()
def patch_cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine between the same patch of two runs.

    Args:
        a: float [B, P, D].
        b: float [B, P, D].

    Returns:
        Float32 [B, P], -1..1; 0 where a patch is zero.

    Raises:
        OptionError: the two have different shapes.
    """
    _check(a)
    if a.shape != b.shape:
        raise OptionError(f"got patches {tuple(a.shape)} and {tuple(b.shape)}; needed the same of both runs")
    return F.cosine_similarity(a.float(), b.float(), dim=-1).clamp(-1, 1)


def _check(patches: Tensor) -> None:
    if patches.ndim != 3 or not patches.numel():
        raise OptionError(f"got patches of shape {tuple(patches.shape)}; needed [B, P, D], none of them 0")
