"""What an answer is made of, by the gradient of its score s at attention or at tokens.

    gradient-rollout  rollout of mean_h relu(A * ds/dA)
    chefer            row q of R, R <- R + mean_h relu(A * ds/dA) R from the first block to the last, R = I
                      before it (Chefer et al. 2021, arXiv 2103.15679)
    legrad            mean over blocks l, heads and queries of relu(ds_l/dA_l), s_l the score of what the
                      model would make of the mean of block l's tokens (Bousselham et al. 2024,
                      arXiv 2404.03214)
    gradcam           relu(sum_d w_d x_d), x the patches as the last block is given them, w the mean over
                      patches of ds/dx (Selvaraju et al. 2017)

LeGrad's mean is over CLS and the patches, as its authors take it of all tokens of a model that has no
registers. A model that pools by attention pools the tokens of each block so, and not their mean.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ttr.attribution.passes import Pass, slopes
from ttr.attribution.rows import Query, on_grid, reading_row, through_blocks
from ttr.attribution.targets import Score
from ttr.backbones.pooling import pools_by_attention


def gradient_rollout(seen: Pass, score: Score, query: Query | None) -> Tensor:
    """Return the rollout of weighted attention, [B, rows, columns]."""
    return _through_weighted(seen, score, query, normalised=True)


def chefer(seen: Pass, score: Score, query: Query | None) -> Tensor:
    """Return the relevance of each patch, [B, rows, columns]."""
    return _through_weighted(seen, score, query, normalised=False)


def legrad(seen: Pass, score: Score) -> Tensor:
    """Return how much each patch could form the score, block by block, [B, rows, columns]."""
    score = score.settled(seen.feature.detach())
    total = seen.images.new_zeros(len(seen.images), seen.layout.length, dtype=torch.float32)
    for block, tokens in enumerate(seen.blocks):
        scores = score(seen.feature_of(_levelled(seen, tokens)))
        (slope,) = slopes(seen, scores, seen.outputs[block : block + 1], again=True)
        total += seen.attention_gradient(block, slope).relu().mean(dim=(1, 2))
    return on_grid(seen.layout, total / len(seen.blocks))


def gradcam(seen: Pass, score: Score) -> Tensor:
    """Return the weighted sum of the patches' channels, [B, rows, columns]."""
    (slope,) = slopes(seen, score(seen.feature), [seen.entered])
    patches, weights = (seen.layout.select(x.detach().float(), "patches") for x in (seen.entered, slope))
    cam = (patches * weights.mean(dim=1, keepdim=True)).sum(dim=2).relu()
    return seen.layout.to_grid(cam)


def _through_weighted(seen: Pass, score: Score, query: Query | None, *, normalised: bool) -> Tensor:
    *of_outputs, of_last = slopes(seen, score(seen.feature), [*seen.outputs, seen.blocks[-1]])
    row = reading_row(seen, query, of_last)
    return on_grid(seen.layout, through_blocks(row, _weighted(seen, of_outputs), normalised=normalised))


def _weighted(seen: Pass, of_outputs: list[Tensor]) -> Iterator[Tensor]:
    """Yield mean_h relu(A * ds/dA) of each block, [B, N, N], the last block first."""
    for block in reversed(range(len(of_outputs))):
        gradient = seen.attention_gradient(block, of_outputs[block])
        yield gradient.mul(seen.attention(block)).relu_().mean(dim=1)


def _levelled(seen: Pass, tokens: Tensor) -> Tensor:
    """Return [B, N, D] with the mean of CLS and patches at every place; as they are, if attention pools."""
    if pools_by_attention(seen.backbone):
        return tokens
    image = torch.cat([seen.layout.select(tokens, group) for group in ("cls", "patches")], dim=1)
    return image.mean(dim=1, keepdim=True).expand_as(tokens)
