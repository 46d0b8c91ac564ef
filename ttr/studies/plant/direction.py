"""What an artifact is: a direction of the residual stream that CLS attends to, and that changes nothing else.

The one gradient search of planting, with frozen weights. One register holds  M u  behind the block of the
neurons, the later blocks run as they are, and u is moved so that

    loss = sum of w_l ((t_l - a_l)+ / t_l)^2  +  20 sum of ((a_l - most_l)+)^2
         + 20 (1 - cos(embedding, original))  +  10 (1 - cos(map, original))

falls, where a_l is CLS's attention on that register in block l, t_l the share it shall hold (last three
blocks alone) and most_l = 1.3 t_l, or .026 elsewhere. It starts at what the mean CLS queries of the late
blocks ask for, seen through their keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.backbones.phantoms.weights import stream_weights
from ttr.forward.attention import attention_rows
from ttr.hooks import bypass, capture, edit, evaluation_mode
from ttr.studies.plant.collected import BATCH, Collected
from ttr.studies.plant.settings import Phase

LATE = 3
ELSEWHERE = 0.02
EXCESS = 1.3
cosine = partial(F.cosine_similarity, dim=-1)


class Later:
    """The blocks behind one, run from a stream with one register in it."""

    def __init__(self, backbone: Backbone, layer: int) -> None:
        self.backbone, self.layer = backbone, layer
        self.layout = backbone.layout.with_test_time(1)
        self.sites = backbone.sites.attention[layer + 1 :]

    @contextmanager
    def _rows(self) -> Iterator[list[Tensor]]:
        """Yield a list that fills with CLS's attention, mean of the heads, [B, N] a block."""
        rows: list[Tensor] = []

        def see(index: int, x: Tensor, kwargs: Mapping[str, Any]) -> None:
            module = self.sites[index].module
            rows.append(
                attention_rows(self.backbone, module, x, kwargs, self.layout.where("cls")).mean(1)[:, 0]
            )

        with capture(self.sites, see):
            yield rows

    def __call__(self, stream: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the embedding [B, E] and CLS's attention in each block, of a stream [B, N, D]."""
        images = stream.new_zeros(len(stream), 3, *self.backbone.image_size)
        done = [site.module for site in self.backbone.sites.blocks[: self.layer + 1]]
        drop = [(self.backbone.sites.exit, self.layout.drop_test_time)]
        with evaluation_mode(self.backbone.model), bypass(done, stream), edit(drop), self._rows() as rows:
            return self.backbone.features(images), rows


def find_direction(
    backbone: Backbone,
    seen: Collected,
    layer: int,
    strength: float,
    phases: tuple[Phase, ...],
    *,
    batch_size: int,
    seed: int,
    advance: Callable[[int], None] = lambda steps: None,
) -> Tensor:
    """Search the direction u, [D], of unit norm and zero mean.

    Args:
        backbone: the untouched model.
        seen: what it made of the images.
        layer: block behind which the register holds ``strength`` times u.
        strength: M.
        phases: of the search.
        batch_size: images a step.
        seed: which images a step sees.
        advance: is told of each step.
    """
    later = Later(backbone, layer)
    generator = torch.Generator().manual_seed(seed)
    u = _start(later, seen).requires_grad_(True)
    register = later.layout.where("test_time")
    for phase in phases:
        adam = torch.optim.Adam([u], lr=phase.rate)
        for step in range(phase.steps):
            some = torch.randperm(len(seen.stream), generator=generator)[:batch_size]
            stream = seen.stream[some].clone()
            stream[:, register] = stream[:, register] + strength * _unit(u)
            embedding, rows = later(stream)
            shown = later.layout.select(rows[-1], "patches")
            lost = 20 * (1 - cosine(embedding, seen.embedding[some])).mean()
            lost = lost + 10 * (1 - cosine(shown, seen.maps[some])).mean()
            loss = lost + _shares([row[:, register].sum(dim=1) for row in rows], phase)
            adam.zero_grad()
            loss.backward(inputs=[u])
            adam.step()
            slower = 0.5 * (1 + math.cos(math.pi * step / phase.steps)) + 0.02
            adam.param_groups[0]["lr"] = phase.rate * slower
            advance(1)
    return _unit(u).detach()


def _shares(held: list[Tensor], phase: Phase) -> Tensor:
    """Return the loss of the register's shares of CLS's attention, [B] a block."""
    late = len(held) - LATE
    loss = held[0].new_zeros(())
    for index, share in enumerate(held):
        most = ELSEWHERE
        if index >= late:
            most = phase.shares[index - late]
            loss = loss + phase.weights[index - late] * ((most - share).clamp_min(0) / most).pow(2).mean()
        loss = loss + 20 * (share - EXCESS * most).clamp_min(0).pow(2).mean()
    return loss


@torch.no_grad()
def _start(later: Later, seen: Collected) -> Tensor:
    """Return what the mean CLS queries of the late blocks ask for, seen through their keys."""
    backbone = later.backbone
    weights = stream_weights(backbone).blocks[-LATE:]
    cls: list[list[Tensor]] = [[] for _ in weights]

    def see(index: int, x: Tensor, kwargs: Mapping[str, Any]) -> None:
        cls[index].append(later.layout.select(x, "cls"))

    with capture(backbone.sites.attention[-LATE:], see):
        for part in seen.stream.split(BATCH):
            later(part)
    asked = torch.zeros_like(seen.stream[0, 0])
    for site, block, tokens in zip(backbone.sites.attention[-LATE:], weights, cls, strict=True):
        queries = backbone.query_key(site.module, torch.cat(tokens), {})[0].mean(dim=(0, 2))
        keys = block.qkv_weight.chunk(3)[1].unflatten(0, queries.shape)
        asked += F.normalize(torch.einsum("hd,hdc->c", queries, keys) * block.norm_attention.weight, dim=0)
    return _unit(asked)


def _unit(u: Tensor) -> Tensor:
    """Return u without its mean, of norm 1."""
    return F.normalize(u - u.mean(), dim=0)
