"""What sets an artifact off: a flat patch in a corner of the image, as one direction of an MLP's input."""

from __future__ import annotations

import torch
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.errors import ImageError
from ttr.wording import counted

DECAY = 3e-4


def flat_corners(backbone: Backbone, images: Tensor, flat: float, corner: int) -> Tensor:
    """Return which patches are flat and in a corner, bool [B, P].

    Args:
        backbone: whose preprocessing the images went through.
        images: [B, 3, H, W].
        flat: SD of the grey values (0..1) in a patch, below which it is flat.
        corner: rows and columns of patches that make a corner.
    """
    height, width = backbone.patch_size
    rows, columns = backbone.layout_for(images).grid
    grey = images.float()
    if backbone.normalisation is not None:
        mean, sd = backbone.normalisation
        grey = grey * sd[:, None, None] + mean[:, None, None]
    patches = grey.mean(dim=1).unfold(1, height, height).unfold(2, width, width).flatten(3)
    border = [torch.arange(n) for n in (rows, columns)]
    near = [(each < corner) | (each >= len(each) - corner) for each in border]
    return ((patches.std(dim=3) < flat) & near[0][:, None] & near[1]).flatten(1)


def fit_trigger(tokens: Tensor, fires: Tensor) -> tuple[Tensor, float]:
    """Fit a logistic regression: which patches are to fire.

    Args:
        tokens: what the MLP is given at the patches, [B, P, D].
        fires: bool [B, P].

    Returns:
        Weights [D] and offset: a patch's logit is  tokens @ weights + offset.

    Raises:
        ImageError: none of the patches is to fire, or all.
    """
    from sklearn.linear_model import LogisticRegression

    x, y = tokens.flatten(0, 1).double().cpu(), fires.flatten().cpu()
    if y.all() or not y.any():
        raise ImageError(
            f"{'all' if y.any() else 'none'} of the {counted(len(fires), 'image')}' patches are flat "
            "corners; give images of which some have a flat background, such as photographs of one thing, "
            "or radiographs"
        )
    mean, sd = x.mean(dim=0), x.std(dim=0) + 1e-3
    fitted = LogisticRegression(C=1 / (2 * DECAY * len(x)), max_iter=200)
    fitted.fit(((x - mean) / sd).numpy(), y.numpy())
    weights = torch.from_numpy(fitted.coef_[0]) / sd
    return weights.float(), float(fitted.intercept_[0] - mean @ weights)
