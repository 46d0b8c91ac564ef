"""Run one batch under many conditions, and share what they have in common.

The bare pass (``full``) comes first and keeps the blocks' outputs at which conditions begin. A condition that
first replaces tokens at block l starts from the full output of block l: the blocks up to there are not run
again, which is exact, since nothing before differs. The model's own forward does all the rest, its embedding,
norm and head included; a wrap that is installed takes part.

Replacing happens at block outputs, so at the last block it changes the tokens that are read and nothing else:
a head on CLS cannot notice what became of a register there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.calibration import Calibration
from ttr.conditions import Condition
from ttr.hooks import bypass, capture, edit, evaluation_mode
from ttr.substitute import positions, substitute
from ttr.tokens import TokenLayout, Tokens

#: Called with (block, attention input [B, N, D], its keyword arguments).
SeeAttention = Callable[[int, Tensor, Mapping[str, Any]], None]


@dataclass(eq=False)
class Passed:
    """A batch under one condition.

    Attributes:
        layout: its tokens.
        embedding: global feature, [B, D'].
        tokens: after the final norm.
        outputs: blocks' outputs that were to be kept, {block: [B, N, D]}.
    """

    layout: TokenLayout
    embedding: Tensor
    tokens: Tokens
    outputs: dict[int, Tensor] = field(default_factory=dict)


@torch.no_grad()
def full_pass(
    backbone: Backbone, images: Tensor, *, keep: Iterable[int] = (), attention: SeeAttention | None = None
) -> Passed:
    """Run a batch [B, 3, H, W] as it is and keep the outputs of the blocks ``keep``."""
    wanted = frozenset(keep)
    kept: dict[int, Tensor] = {}
    last = backbone.num_layers - 1

    def see(index: int, x: Tensor, kwargs: Mapping[str, Any]) -> None:
        if index in wanted or index == last:
            kept[index] = x

    images = backbone.prepare(images)
    with ExitStack() as stack:
        stack.enter_context(evaluation_mode(backbone.model))
        stack.enter_context(capture(backbone.sites.blocks, see))
        if attention is not None:
            stack.enter_context(capture(backbone.sites.attention, attention))
        embedding = backbone.features(images)
    return _passed(backbone, images, embedding, kept[last], {b: x for b, x in kept.items() if b in wanted})


@torch.no_grad()
def ablated_pass(
    backbone: Backbone,
    images: Tensor,
    full: Passed,
    condition: Condition,
    *,
    key: str,
    calibration: Calibration | None = None,
    seed: int = 42,
    attention: SeeAttention | None = None,
) -> Passed:
    """Run a batch under a condition, from the first block at which it differs.

    Args:
        backbone: as for the full pass.
        images: the batch, [B, 3, H, W].
        full: its full pass, with the output of the condition's first block.
        condition: what to replace.
        key: names the batch; with ``seed`` it decides every random draw.
        calibration: for the substitutes that need one.
        seed: of the draws.
        attention: sees the attention inputs of the blocks behind the first replaced one; those before are
            the full pass's.

    Raises:
        OptionError: shuffling a batch of one, or no calibration where one is needed.
    """
    if not condition.blocks:
        return full
    images = backbone.prepare(images)
    where = positions(condition, images.shape[0], _generator(seed, condition.tokens, key))
    generator = _generator(seed, condition.name, key)
    first = condition.blocks[0]
    blocks = backbone.sites.blocks
    kept: list[Tensor] = []

    def replaced(block: int) -> Callable[[Tensor], Tensor]:
        return lambda x: substitute(
            x, block, where, condition.substitute, calibration=calibration, generator=generator
        )

    def see(index: int, x: Tensor, kwargs: Mapping[str, Any]) -> None:
        kept.append(x)

    def see_attention(index: int, x: Tensor, kwargs: Mapping[str, Any]) -> None:
        assert attention is not None
        attention(first + 1 + index, x, kwargs)

    with ExitStack() as stack:
        stack.enter_context(evaluation_mode(backbone.model))
        stack.enter_context(bypass([site.module for site in blocks[: first + 1]], full.outputs[first]))
        stack.enter_context(edit([(blocks[block], replaced(block)) for block in condition.blocks]))
        stack.enter_context(capture(blocks[-1:], see))
        if attention is not None:
            stack.enter_context(capture(backbone.sites.attention[first + 1 :], see_attention))
        embedding = backbone.features(images)
    return _passed(backbone, images, embedding, kept[0], {})


def _passed(
    backbone: Backbone, images: Tensor, embedding: Tensor, last: Tensor, kept: dict[int, Tensor]
) -> Passed:
    layout = backbone.layout_for(images).for_length(last.shape[1])
    return Passed(layout, embedding, normed(backbone, last, layout), kept)


def normed(backbone: Backbone, x: Tensor, layout: TokenLayout) -> Tokens:
    """Return the tokens of a block's output [B, N, D] after the final norm."""
    return layout.split(backbone.sites.final_norm.forward(x))


def _generator(seed: int, *parts: str) -> torch.Generator:
    digest = hashlib.sha256("\n".join([str(seed), *parts]).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True) & (2**63 - 1))
