"""Where attention flows: from CLS, registers and patches, to each of them, block by block.

    flow(s -> t) = mean over heads and queries i in s of sum over j in t of A_ij.

So the flows of one source sum to 1 (less what an attention bias holds). Registers are the trained ones and
the test-time ones together; the share of each single register is kept beside the nine flows.

Beside a reference run (the full model), the divergence of each source's attention is measured in the same
pass over the rows: the Jensen-Shannon divergence query by query and head by head, then averaged. It is taken
before averaging, since two maps may differ everywhere and agree in the mean; that of the heads' mean, which
is never larger, stands beside it.

Rows are made a chunk of queries at a time and summed at once: memory is O(B x heads x chunk x N).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import nan
from typing import Any

import torch
from torch import Tensor, nn

from ttr.analysis.divergence import js_divergence, on_one_support
from ttr.backbones.base import Backbone
from ttr.checks import integer
from ttr.errors import ModelError, OptionError
from ttr.forward.attention import Projected, project
from ttr.tokens import TokenLayout
from ttr.wording import counted

#: Sources and targets, in the order of the axes of :attr:`LayerStatistics.flows`.
GROUPS = ("cls", "registers", "patches")
CHUNK = 64
AttentionInput = tuple[Tensor, Mapping[str, Any], TokenLayout]


@dataclass(frozen=True, eq=False)
class LayerStatistics:
    """Attention of one block, a row an image; NaN wherever a group has no token.

    Attributes:
        flows: share of each source's attention that goes to each target, float32 [B, 3, 3] (source,
            target), both in the order of :data:`GROUPS`; 0..1.
        shares: the same to each single register, trained ones first, float32 [B, 3, T+R].
        divergence: mean Jensen-Shannon divergence to the reference run a source, float32 [B, 3], 0..ln 2
            nats; None without a reference.
        divergence_of_mean: the same of the heads' mean attention, 0..divergence; None without a reference.
    """

    flows: Tensor
    shares: Tensor
    divergence: Tensor | None
    divergence_of_mean: Tensor | None


@torch.no_grad()
def attention_statistics(
    backbone: Backbone,
    layer: int,
    x: Tensor,
    kwargs: Mapping[str, Any],
    layout: TokenLayout,
    reference: AttentionInput | None = None,
    *,
    chunk: int = CHUNK,
) -> LayerStatistics:
    """Return where the attention of one block flows, and how far it is from a reference run's.

    Both runs are projected by the module as it is now, each with its own number of unrotated tokens. An
    attention bias that stands takes part in both.

    Args:
        backbone: the model, wrapped or not.
        layer: index of the block.
        x: what its attention was given, [B, N, D], as ``backbone.sites.attention`` shows it.
        kwargs: the keyword arguments it was given.
        layout: the tokens of this run.
        reference: the same three of another run of the same images. Queries that it lacks are left out of
            the divergence; tokens that one run lacks have probability 0 there.
        chunk: queries at a time.

    Raises:
        OptionError: ``chunk`` below 1, or the runs differ in images, grid or trained tokens.
        ModelError: an input of another length than its layout, or no such block.
    """
    integer("chunk", chunk, 1)
    module = backbone.sites.attention[backbone.layer(layer)].module
    own = _Run.of(backbone, module, x, kwargs, layout)
    other = None
    if reference is not None:
        _check_comparable(x, layout, reference)
        other = _Run.of(backbone, module, *reference)
    received, distances, of_mean = zip(*(_source(own, other, group, chunk) for group in GROUPS), strict=True)
    rows = torch.stack(received, dim=1)
    to_groups = [rows[..., _where(layout, group)] for group in GROUPS]
    flows = [part.sum(dim=-1) if part.shape[-1] else rows.new_full(rows.shape[:2], nan) for part in to_groups]
    return LayerStatistics(
        flows=torch.stack(flows, dim=2),
        shares=to_groups[GROUPS.index("registers")],
        divergence=None if other is None else torch.stack(distances, dim=1),
        divergence_of_mean=None if other is None else torch.stack(of_mean, dim=1),
    )


@dataclass(frozen=True, eq=False)
class _Run:
    """One run's queries and keys with their tokens."""

    projected: Projected
    layout: TokenLayout

    @classmethod
    def of(
        cls, backbone: Backbone, module: nn.Module, x: Tensor, kwargs: Mapping[str, Any], layout: TokenLayout
    ) -> _Run:
        if x.shape[1] != layout.length:
            raise ModelError(f"got {x.shape[1]} tokens, but this layout has {layout.length}: {layout}")
        with unrotated(backbone, module, layout):
            return cls(project(backbone, module, x, kwargs), layout)

    def count(self, group: str) -> int:
        where = _where(self.layout, group)
        return where.stop - where.start

    def rows(self, group: str, start: int, chunk: int) -> Tensor:
        """Return attention of up to ``chunk`` queries of a group, from its query ``start`` on."""
        first, stop = _where(self.layout, group).start + start, _where(self.layout, group).stop
        return self.projected.rows(slice(min(first, stop), min(first + chunk, stop)))


def _source(own: _Run, other: _Run | None, group: str, chunk: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a source's mean attention to every token [B, N], its mean divergence and the mean map's [B]."""
    queries = own.projected.queries
    batch, heads = queries.shape[:2]
    received = queries.new_zeros(batch, own.layout.length, dtype=torch.float32)
    distance, of_mean = queries.new_zeros(2, batch, dtype=torch.float32)
    for start in range(0, own.count(group), chunk):
        rows = own.rows(group, start, chunk)
        received += rows.sum(dim=(1, 2))
        if other is not None:
            theirs = other.rows(group, start, rows.shape[2])
            pair = on_one_support(rows[:, :, : theirs.shape[2]], own.layout, theirs, other.layout)
            distance += js_divergence(*pair).sum(dim=(1, 2))
            of_mean += js_divergence(*(each.float().mean(dim=1) for each in pair)).sum(dim=1)
    compared = 0 if other is None else min(own.count(group), other.count(group))
    return received / (heads * own.count(group)), distance / (heads * compared), of_mean / compared


def _where(layout: TokenLayout, group: str) -> slice:
    if group == "registers":
        return slice(layout.where("registers").start, layout.where("test_time").stop)
    return layout.where("cls" if group == "cls" else "patches")


@contextmanager
def unrotated(backbone: Backbone, module: Any, layout: TokenLayout) -> Iterator[None]:
    """Tell a rotary attention how many tokens of this run stand before the patches.

    A wrap that is installed raised the number for its own run; the reference may be the bare one.
    """
    if not any(module is each for each in backbone.sites.rotary):
        yield
        return
    before = module.num_prefix_tokens
    module.num_prefix_tokens = layout.prefix + layout.test_time
    try:
        yield
    finally:
        module.num_prefix_tokens = before


def _check_comparable(x: Tensor, layout: TokenLayout, reference: AttentionInput) -> None:
    x_reference, _, other = reference
    if len(x) != len(x_reference):
        raise OptionError(
            f"got {counted(len(x), 'image')} and {len(x_reference)} of the reference; needed the same ones"
        )
    if layout.with_test_time(0) != other.with_test_time(0):
        raise OptionError(
            f"got tokens {layout} and {other} of the reference; needed runs of one model and size"
        )
