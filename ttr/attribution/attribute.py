"""The one door: ``ttr.attribute`` gives a map over the patches by any of the methods.

Written with A_l [heads, N, N] for the attention of block l = 1..L, s for the score of the target, q for the
query whose row is read, and mean_h over attention heads:

    attention         mean_h A_l[q]
    value-attention   mean_h A_l[h, q, i] |W_o^h v_i^h|                    (after Kobayashi et al. 2020)
    rollout           product of (mean_h A_l + I), rows of sum 1           (Abnar and Zuidema 2020)
    gradient-rollout  the same of mean_h relu(A_l * ds/dA_l)
    chefer            R <- R + mean_h relu(A_l * ds/dA_l) R                (Chefer et al. 2021)
    legrad            mean_l mean_{h, queries} relu(ds_l/dA_l), s_l the score of block l's own output
                      behind the final norm                               (Bousselham et al. 2024)
    gradcam           relu(sum_d w_d x_d), x what the last block is given, w the mean of ds/dx over patches
    input-gradient    mean of |ds/d(pixel)| over a patch and its channels
    perturbation      s - s(image with that patch at the normalised mean)  (slow: a pass a patch)

Only patches are shown: CLS and registers, trained or at test time, take part in every product and are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttr.attribution import rows
from ttr.attribution.targets import Score, Target, score_of
from ttr.attribution.watching import Pass, watched
from ttr.backbones.base import Backbone
from ttr.errors import OptionError
from ttr.evaluate.heads import LinearHead
from ttr.evaluate.zero_shot import Tokenizer
from ttr.hooks import evaluation_mode

Method = Literal[
    "attention",
    "value-attention",
    "rollout",
    "gradient-rollout",
    "chefer",
    "legrad",
    "gradcam",
    "input-gradient",
    "perturbation",
]
OF_ATTENTION = ("attention", "value-attention", "rollout")


def attribute(
    backbone: Backbone,
    images: Tensor,
    *,
    method: Method = "chefer",
    target: Target = None,
    head: LinearHead | nn.Linear | None = None,
    block: int = -1,
    attention_head: int | None = None,
    query: rows.Query | None = None,
    tokenizer: Tokenizer | None = None,
    batch_size: int = 16,
) -> Tensor:
    """Return where in each image the model's answer comes from, by one of the module's formulas.

    Args:
        backbone: bare or wrapped; an installed wrap takes part.
        images: a normalised batch [B, 3, H, W].
        method: one of the nine; ``attention``, ``value-attention`` and ``rollout`` know no target.
        target: a class of the head, one an image, or a text for CLIP; None: the head's highest class.
        head: a linear head on the model's feature; None: the model's own.
        block: whose attention, of ``attention`` and ``value-attention``.
        attention_head: one of its heads; None: their mean.
        query: ``"cls"``, ``"patches"`` (the mean over their rows) or a patch (row, column), of methods that
            read a row; None: what the model's feature is made of.
        tokenizer: of a text; None: the architecture's own.
        batch_size: images a pass, of ``perturbation``.

    Returns:
        Float32 [B, rows, columns] over the patch grid, on the model's device, as the formula gives it.

    Raises:
        OptionError: no such method, target, head or query.
        ModelError: the model has none of what the method reads, or images that do not fit.
        ImageError: no tensor of finite floats.
    """
    if method not in get_args(Method):
        raise OptionError(f"method={method!r}; needed one of {', '.join(get_args(Method))}")
    if method in OF_ATTENTION:
        if target is not None or head is not None:
            raise OptionError(f"method={method!r} knows no target; leave out target= and head=")
        with watched(backbone, images, gradients=False) as seen:
            return _of_attention(seen, method, backbone.layer(block, "block"), attention_head, query)
    with torch.inference_mode(False):
        score = score_of(backbone, target, head, tokenizer)
    if method == "perturbation":
        return _perturbation(backbone, images, score, batch_size)
    with watched(backbone, images, gradients=True) as seen:
        if method in ("gradient-rollout", "chefer"):
            row = rows.first_row(seen, query)
            found = rows.rolled(row, _weighted(seen, score), normalised=method == "gradient-rollout")
            return rows.on_grid(seen.layout, found)
        return _OF_GRADIENTS[method](seen, score)


def _of_attention(
    seen: Pass, method: str, block: int, attention_head: int | None, query: rows.Query | None
) -> Tensor:
    row = rows.first_row(seen, query)
    if method == "rollout":
        means = (seen.attention(each).mean(dim=1) for each in reversed(range(len(seen.inputs))))
        return rows.on_grid(seen.layout, rows.rolled(row, means, normalised=True))
    found = torch.einsum("bq,bhqn->bhn", row, seen.attention(block).to(row))
    if method == "value-attention":
        found = found * rows.value_lengths(seen, block)
    return rows.on_grid(seen.layout, rows.of_heads(found, attention_head))


def _weighted(seen: Pass, score: Score) -> Iterator[Tensor]:
    """Yield mean_h relu(A * ds/dA) of each block, [B, N, N], the last block first."""
    gradients = torch.autograd.grad(score(seen.feature).sum(), seen.outputs)
    for block in reversed(range(len(gradients))):
        weights, gradient = seen.attention_and_gradient(block, gradients[block])
        yield (weights * gradient).relu().mean(dim=1)


def _legrad(seen: Pass, score: Score) -> Tensor:
    rows.require_final_feature(seen)
    score = score.settled(seen.feature)
    total = seen.feature.new_zeros(len(seen.images), seen.layout.length, dtype=torch.float32)
    for block, tokens in enumerate(seen.blocks):
        scores = score(rows.feature_behind(seen, tokens))
        (of_output,) = torch.autograd.grad(scores.sum(), seen.outputs[block], retain_graph=True)
        _, gradient = seen.attention_and_gradient(block, of_output)
        total += gradient.relu().mean(dim=(1, 2))
    return rows.on_grid(seen.layout, total / len(seen.blocks))


def _gradcam(seen: Pass, score: Score) -> Tensor:
    (gradient,) = torch.autograd.grad(score(seen.feature).sum(), seen.entered)
    patches, slopes = (seen.layout.select(x.detach().float(), "patches") for x in (seen.entered, gradient))
    cam = (patches * slopes.mean(dim=1, keepdim=True)).sum(dim=2).relu()
    return seen.layout.to_grid(cam)


def _input_gradient(seen: Pass, score: Score) -> Tensor:
    (gradient,) = torch.autograd.grad(score(seen.feature).sum(), seen.images)
    return _over_patches(seen.backbone, gradient.float().abs().mean(dim=1))


def _over_patches(backbone: Backbone, pixels: Tensor) -> Tensor:
    """Return the mean of [B, H, W] over each patch; one that the image does not fill counts what it has."""
    size = backbone.patch_size
    return F.avg_pool2d(pixels[:, None], size, ceil_mode=True, count_include_pad=False)[:, 0]


_OF_GRADIENTS: dict[str, Callable[[Pass, Score], Tensor]] = {
    "legrad": _legrad,
    "gradcam": _gradcam,
    "input-gradient": _input_gradient,
}


def _perturbation(backbone: Backbone, images: Tensor, score: Score, size: int) -> Tensor:
    """Return the drop of the score when each patch in turn is zero, the mean of normalised pixels."""
    if size < 1:
        raise OptionError(f"batch_size={size}; needed one or more")
    given = backbone.prepare(images)
    rows_, columns = backbone.layout_for(given).grid
    height, width = backbone.patch_size
    cells = [(row, column) for row in range(rows_) for column in range(columns)]
    drops: list[Tensor] = []
    with torch.no_grad(), evaluation_mode(backbone.model):
        feature = backbone.features(given)
        score = score.settled(feature)
        whole = score(feature)
        for row, column in cells:
            without = given.clone()
            without[..., row * height : (row + 1) * height, column * width : (column + 1) * width] = 0
            features = [backbone.features(part) for part in without.split(size)]
            drops.append(whole - score(torch.cat(features)))
    return torch.stack(drops, dim=1).unflatten(1, (rows_, columns)).float()
