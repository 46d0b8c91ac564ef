"""The geometry of the patches: how many directions they use, and how far an ablation turns them.

Effective rank is Roy and Vetterli's (2007, EUSIPCO): the exponential of the entropy of the normalised
spectrum,

    effective rank = exp(-sum p_i ln p_i),     p_i = l_i / sum l.

Whose spectrum is a matter of reading, and no two readings compare:

    effective_rank           eigenvalues of the patch Gram matrix G = X X^T, patches as they are: the squared
                             singular values of X
    effective_rank_centred   the same of the patches less their mean, which is then no direction
    effective_rank_singular  singular values of X, as Roy and Vetterli have it

It is 1 when all patches point one way and min(P, D) when they fill the space evenly. Long patches count for
more than short ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ttr.errors import ModelError, OptionError


@torch.no_grad()
def effective_rank(patches: Tensor) -> Tensor:
    """Return the effective rank of each image's patch Gram matrix, not centred: the first reading.

    Args:
        patches: float [B, P, D].

    Returns:
        Float64 [B], 1..min(P, D); NaN for an image whose patches are all zero.

    Raises:
        OptionError: not [B, P, D].
        ModelError: patches that are not finite.
    """
    return _rank(_spectrum(_wide(patches)))


@torch.no_grad()
def effective_ranks(patches: Tensor) -> dict[str, Tensor]:
    """Return the effective rank of each image in all readings, by the names of the module.

    Args:
        patches: float [B, P, D].

    Returns:
        {name: float64 [B]}; NaN where there is no spectrum: all patches zero, or equal for the centred one.

    Raises:
        OptionError: not [B, P, D].
        ModelError: patches that are not finite.
    """
    x = _wide(patches)
    spectrum = _spectrum(x)
    return {
        "effective_rank": _rank(spectrum),
        "effective_rank_centred": _rank(_spectrum(x - x.mean(dim=1, keepdim=True))),
        "effective_rank_singular": _rank(spectrum.sqrt()),
    }


def _wide(patches: Tensor) -> Tensor:
    _check(patches)
    if not patches.isfinite().all():
        raise ModelError(
            "patches hold NaN or infinite values; look for the images or the type that made them"
        )
    # Apple's GPUs have no float64.
    return (patches.cpu() if patches.device.type == "mps" else patches).double()


def _spectrum(x: Tensor) -> Tensor:
    """Return the eigenvalues of each Gram matrix, ascending, those that are rounding alone as 0."""
    # X X^T and X^T X have the same eigenvalues but for zeros; the smaller one is the cheaper.
    gram = x @ x.mT if x.shape[1] <= x.shape[2] else x.mT @ x
    spectrum = torch.linalg.eigvalsh(gram)
    rounding = spectrum[..., -1:] * gram.shape[-1] * torch.finfo(spectrum.dtype).eps
    return torch.where(spectrum > rounding, spectrum, 0)


def _rank(spectrum: Tensor) -> Tensor:
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
