"""Linear segmentation: one logistic regression names the class of every patch, and mIoU counts the pixels.

The probe of Oquab et al. (2023) in its plainest form: it learns from the majority class of a sample of
training patches, its logits are upsampled bilinearly to the pixels, and each pixel takes the best. What an
image contributes is a small confusion matrix, so that memory does not grow with the images, and

    IoU(c) = right(c) / (truth(c) + predicted(c) - right(c)),   mIoU = mean over the classes that occur,

can be computed of any resample of images from the sums of their matrices.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ttr.checks import integer
from ttr.datasets.registry import IGNORE
from ttr.errors import OptionError
from ttr.evaluate.heads import LinearHead
from ttr.evaluate.probe import Labelled, on_raw_features

#: Inverse strength of the L2 penalty on standardised features, fixed so that no validation masks are needed.
STRENGTH = 0.1
#: Logit of a class that no training patch has: far below any other, and finite, since it is interpolated.
NEVER = -1e6


def patch_targets(masks: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Return the class that most pixels of each patch have.

    Args:
        masks: int64 [B, h, w], 0..254, or 255 to ignore.
        grid: patch grid (rows, columns), which covers the mask.

    Returns:
        int64 [B, P], row by row of the grid; of equals the lowest class, 255 last of all.
    """
    masks = np.asarray(masks)
    rows, columns = grid
    height, width = masks.shape[1:]
    row, column = np.arange(height) * rows // height, np.arange(width) * columns // width
    cell, cells = row[:, None] * columns + column, rows * columns
    found = np.empty((len(masks), cells), dtype=np.int64)
    for image, mask in enumerate(masks):
        counts = np.bincount((mask * cells + cell).ravel(), minlength=(IGNORE + 1) * cells)
        found[image] = counts.reshape(IGNORE + 1, cells).argmax(axis=0)
    return found


def sample_patches(
    patches: Tensor, targets: np.ndarray, per_image: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw up to ``per_image`` patches of each image, without replacement, from those that count.

    Args:
        patches: [B, P, D].
        targets: int64 [B, P], 255 for those that do not count.
        per_image: how many at most.
        generator: of the draws; images take from it in turn, so the batch size does not matter.

    Returns:
        (x float32 [M, D], y int64 [M]), M <= B * per_image.

    Raises:
        OptionError: ``per_image`` < 1.
    """
    integer("per_image", per_image, 1)
    targets = np.asarray(targets)
    drawn = np.zeros(targets.shape, dtype=bool)
    for image, classes in enumerate(targets):
        drawn[image, generator.permutation(np.flatnonzero(classes != IGNORE))[:per_image]] = True
    x = patches[torch.from_numpy(drawn).to(patches.device)]
    return x.detach().float().cpu().numpy(), targets[drawn].astype(np.int64)


def train_patch_probe(x: np.ndarray, y: np.ndarray, classes: tuple[str, ...]) -> LinearHead:
    """Fit L2-penalised logistic regression (C = 0.1) on standardised patch features.

    The problem is convex: the result depends on no seed and no order. A class without a training patch is
    never predicted.

    Args:
        x: features, float32 [M, D].
        y: classes, int64 [M], 0..C-1.
        classes: C names.

    Raises:
        OptionError: features that are not finite, a class out of range, or patches of a single class.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    patches = Labelled(x, y)
    present = np.unique(y)
    if present[0] < 0 or present[-1] >= len(classes):
        raise OptionError(
            f"patch classes reach from {present[0]} to {present[-1]}; needed 0..{len(classes) - 1}"
        )
    if len(present) < 2:
        raise OptionError(
            f"all training patches are {classes[present[0]]!r}; needed two classes: give more images or masks"
        )
    wide = patches.x.astype(np.float64)
    scaler = StandardScaler().fit(wide)
    model = LogisticRegression(C=STRENGTH, max_iter=1000).fit(scaler.transform(wide), y)
    found = on_raw_features(model, scaler, tuple(classes[label] for label in present))
    weight = torch.zeros(len(classes), x.shape[1])
    bias = torch.full((len(classes),), NEVER)
    weight[present], bias[present] = found.weight, found.bias
    return LinearHead(weight, bias, classes)


def confusions(head: LinearHead, patches: Tensor, grid: tuple[int, int], masks: np.ndarray) -> np.ndarray:
    """Return the confusion matrix of each image's pixels.

    Args:
        head: a patch probe of C classes.
        patches: [B, P, D], row by row of ``grid``.
        grid: patch grid (rows, columns).
        masks: int64 [B, h, w], 0..C-1, or 255 to ignore.

    Returns:
        int64 [B, C, C]: rows are the truth, columns the prediction.

    Raises:
        OptionError: a mask holds a class that the head does not have.
    """
    masks = np.asarray(masks)
    count = len(head.bias)
    strange = masks[(masks != IGNORE) & ((masks < 0) | (masks >= count))]
    if strange.size:
        raise OptionError(f"a mask holds the class {strange[0]}; needed 0..{count - 1} or {IGNORE}")
    found = np.empty((len(masks), count, count), dtype=np.int64)
    for image, mask in enumerate(masks):
        predicted = segment(head, patches[image], grid, mask.shape)
        counted = mask != IGNORE
        cells = mask[counted].astype(np.int64) * count + predicted[counted]
        found[image] = np.bincount(cells, minlength=count**2).reshape(count, count)
    return found


def segment(head: LinearHead, patches: Tensor, grid: tuple[int, int], size: tuple[int, ...]) -> np.ndarray:
    """Return the class of each pixel of one image, [P, D] -> int64 [h, w] with ``size`` = (h, w)."""
    with torch.no_grad():
        logits = head.logits(patches.float().cpu()).T.unflatten(1, grid)
        upsampled = interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]
    # NumPy's argmax over the first axis is eight times as fast as torch's here.
    return upsampled.numpy().argmax(axis=0)


def miou(confusion: np.ndarray) -> float:
    """Return the mean IoU of a confusion matrix [C, C] over the classes that occur in truth or prediction.

    NaN where none does (no pixel counts).
    """
    return float(miou_resampled(confusion[None], np.ones((1, 1)))[0])


def miou_resampled(confusions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mIoU of each resample of images.

    Args:
        confusions: one matrix an image, [N, C, C].
        weights: how often each resample drew each image, [R, N].

    Returns:
        float64 [R]; NaN for a resample without a pixel that counts.
    """
    right = np.diagonal(confusions, axis1=1, axis2=2)
    either = confusions.sum(axis=1) + confusions.sum(axis=2) - right
    with np.errstate(invalid="ignore", divide="ignore"):
        weighed = weights.astype(np.float64)
        found, union = weighed @ right, weighed @ either
        occurs = union > 0
        return np.where(occurs, found / union, 0).sum(axis=1) / occurs.sum(axis=1)
