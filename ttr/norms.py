"""Token norms, and the threshold above which a patch is an outlier.

Darcet et al. (2024) found the artifacts as patches whose norm stands far above the rest; Jiang et al.
(2025) take mean + 3 SD of the patch norms, or a number tuned to the model (75 for CLIP ViT-B/16, 150 for
DINOv2 ViT-L/14).

Mean and SD are moved by the very outliers they are to find. If a share f of patches sits at one high
norm, mean + 3 SD exceeds that norm as soon as f + 3 sqrt(f (1 - f)) >= 1: from 10 % of outliers on, none
is found. And on a clean map it finds some always, since a tail has a 3-SD patch: 0.1 % of a Gaussian, more
of a skewed map. So ``"auto"`` is the robust variant, taken image by image:

    threshold = max(m + 3 * 1.4826 * MAD, 2 m),     m = median patch norm, MAD = median |norm - m|,

where 1.4826 MAD estimates the SD of the unaffected patches, and the factor 2 asks an outlier to be at least
twice the ordinary (the published 150 and 75 are 3.3 and 3.6 times the median patch norms, 45 and 21, that
are reported for DINOv2-L and CLIP-B/16). The phantoms (4 % outliers, or none) and maps with 40 % outliers
come out right; ``"mean+3sd"`` is kept for comparison.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ttr.errors import OptionError

if TYPE_CHECKING:
    from torch import Tensor

Threshold = float | Literal["auto", "mean+3sd"]


def token_norms(x: Tensor) -> Tensor:
    """Return the L2 norm of each token, [..., N, D] -> float32 [..., N], whatever the type of ``x``."""
    import torch

    wide = torch.promote_types(x.dtype, torch.float32)
    return torch.linalg.vector_norm(x, dim=-1, dtype=wide).float()


def outlier_threshold(patch_norms: Tensor, threshold: Threshold = "auto") -> Tensor:
    """Return the norm above which a patch is an outlier, one number an image.

    Args:
        patch_norms: [..., P], patches along the last axis.
        threshold: a norm; ``"auto"`` (robust, see the module) or ``"mean+3sd"`` (Jiang et al. 2025,
            arXiv 2506.08010, with the population SD over the image's patches).

    Returns:
        Float32 [...].

    Raises:
        OptionError: the threshold is neither a positive number nor one of the two names.
    """
    import torch

    norms, threshold = patch_norms.float(), check_threshold(threshold)
    if threshold == "auto":
        middle = norms.median(dim=-1).values
        spread = (norms - middle.unsqueeze(-1)).abs().median(dim=-1).values
        return torch.maximum(middle + 3 * 1.4826 * spread, 2 * middle)
    if threshold == "mean+3sd":
        return norms.mean(dim=-1) + 3 * norms.std(dim=-1, correction=0)
    return norms.new_full(norms.shape[:-1], threshold)


def check_threshold(threshold: Threshold) -> Threshold:
    """Return a threshold as one of its two names or as a float, whatever kind of number was given.

    Raises:
        OptionError: neither a name nor a positive number.
    """
    if isinstance(threshold, str) and threshold in ("auto", "mean+3sd"):
        return threshold
    try:
        if not isinstance(threshold, str | bool) and 0 < float(threshold) < float("inf"):
            return float(threshold)
    except (TypeError, ValueError, RuntimeError):
        pass
    raise OptionError(f'threshold={threshold!r}; needed a positive norm, "auto" or "mean+3sd"')
