"""A batch that passed the model in a detection: which of its tokens are outliers, and what stays of them.

What needs every token (the sparsity filter, the activity away from outliers) is reduced while the activations
pass by. Where the outliers are is known only at the end of the pass, so the activations of those few tokens
are computed again from the MLP's input. A batch tells the host one thing, once: which tokens are outliers,
and what its images look like. All else stays on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.backbones.transfer import ask, send
from ttr.forward.record import Record, watch_pass
from ttr.hooks import keep
from ttr.norms import Threshold, outlier_threshold
from ttr.registers.activity import Activity
from ttr.registers.by_gradient import contributions
from ttr.registers.doubles import thumbnails
from ttr.registers.two_clusters import smaller_cluster
from ttr.registers.ways import By


def find_outliers(passed: Record, layer: int, threshold: Threshold, include_cls: bool = False) -> Tensor:
    """Return which tokens are outliers at the output of block ``layer``, bool [B, N].

    The threshold is taken over the patches; registers never count, CLS only if asked.
    """
    norms = passed.norms[layer]
    limit = outlier_threshold(passed.layout.select(norms, "patches"), threshold)
    eligible = torch.zeros_like(norms, dtype=torch.bool)
    eligible[:, passed.layout.where("patches")] = True
    if include_cls:
        eligible[:, passed.layout.where("cls")] = True
    return eligible & (norms > limit[:, None])


@dataclass
class Seen:
    """A batch that passed, as far as it stays on the device.

    Attributes:
        images: as they were given, [B, C, H, W].
        passed: norms and MLP inputs.
        activity: what was kept of the activations.
        scores: what the neurons of each image are ranked by, float32 [L, B, hidden]; None: their activity.
        told: waits for the device and gives, one after the other: at which blocks all norms are finite [L],
            the thumbnails [B, 64], and which tokens are outliers [B, N].
    """

    images: Tensor
    passed: Record
    activity: Activity
    told: Callable[[], np.ndarray]
    scores: Tensor | None = None


@torch.no_grad()
def see(
    backbone: Backbone,
    images: Tensor,
    layer: int,
    threshold: Threshold,
    *,
    sparsity: bool = True,
    include_cls: bool = False,
    by: By = "norms",
) -> Seen:
    """Send a batch [B, C, H, W] through the model; the device may still be at it when this returns.

    ``by`` says what outliers are, and what neurons are ranked by; see :func:`ttr.detect`.
    """
    backbone.check_batch(images)
    sent = send(images, backbone.device)
    activity = Activity(backbone.layout_for(images), sparsity)
    with keep([backbone.sites.blocks[layer]] if by == "clustering" else []) as tokens:
        passed = watch_pass(backbone, sent, neurons=activity)
    scores = None
    if by == "clustering":
        outliers = torch.zeros_like(passed.norms[layer], dtype=torch.bool)
        outliers[:, passed.layout.where("patches")] = smaller_cluster(
            passed.layout.select(tokens[0], "patches")
        )
    else:
        outliers = find_outliers(passed, layer, threshold, include_cls)
    if by == "gradient":
        scores = contributions(backbone, sent, layer, outliers)
    parts = (passed.finite(), thumbnails(sent), outliers)
    told = ask(torch.cat([part.flatten().float() for part in parts]))
    return Seen(images, passed, activity, told, scores)


@dataclass
class AtOutliers:
    """What the images with outliers of one batch leave until their neurons are computed again.

    Attributes:
        mlp_inputs: at the K outliers, image by image, [L, K, D].
        norms: there, float32 [L, K].
        patch_sums: sum of |activation| over the patches, [L, B, hidden].
        sparse: the sparsity filter, bool [L, B, hidden].
        counts: outliers of each image, [B].
        on_patches: which of the outliers are patches, bool [K].
        patches: of an image, outliers or not.
        scores: what neurons are ranked by, [L, B, hidden]; None: their activity.
    """

    mlp_inputs: Tensor
    norms: Tensor
    patch_sums: Tensor
    sparse: Tensor
    counts: np.ndarray
    on_patches: np.ndarray
    patches: int
    scores: Tensor | None = None

    @classmethod
    def of(cls, seen: Seen, items: Sequence[int], outliers: np.ndarray) -> AtOutliers:
        """Take some images of a batch, whose outliers are given as bool [B, N]."""
        passed, device = seen.passed, seen.passed.norms.device
        rows, tokens = outliers[items].nonzero()
        flat = np.asarray(items)[rows] * outliers.shape[1] + tokens
        is_patch = np.zeros(outliers.shape[1], bool)
        is_patch[passed.layout.where("patches")] = True
        places, chosen = (send(torch.from_numpy(x), device) for x in (flat, np.asarray(items)))
        patch_sums, sparse = seen.activity.of(chosen)
        return cls(
            torch.stack([x.flatten(0, 1).index_select(0, places) for x in passed.mlp_inputs]),
            passed.norms.flatten(1).index_select(1, places),
            patch_sums,
            sparse,
            np.bincount(rows),
            is_patch[tokens],
            passed.layout.patches,
            None if seen.scores is None else seen.scores.index_select(1, chosen),
        )
