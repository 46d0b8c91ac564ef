"""Attention rows of all blocks of one pass, from the queries and keys that the model made itself.

:func:`ttr.forward.attention.attention_rows` projects a second time, for whoever holds an attention's input
alone. Here the pass is watched (:mod:`ttr.backbones.query_key`), and of several blocks the rows are formed at
once, since with small batches on a GPU a launch costs more than the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.backbones.extra_key import extra_key
from ttr.forward.attention import Projected, beside_bias, project
from ttr.hooks import Site, capture

#: What is held for keys that wait to be taken together, in bytes.
MOST_WAITING = 64 * 2**20


@dataclass(frozen=True)
class _Running:
    """The attention that was entered last: its block, what it was given, and what passed in it so far."""

    block: int
    x: Tensor
    kwargs: Mapping[str, Any]
    seen: dict[int, Tensor] = field(default_factory=dict)


class RowsOfBlocks:
    """The rows of one pass; watch it, then ask for what was :meth:`formed`.

    Args:
        backbone: whose blocks.
        rows: the number N of tokens -> the query tokens that are wanted.
    """

    def __init__(self, backbone: Backbone, rows: Callable[[int], slice]) -> None:
        self.backbone, self._rows = backbone, rows
        self._modules: list[Any] = [site.module for site in backbone.sites.attention]
        of_blocks = [backbone.query_key.passing(module) for module in self._modules]
        self._passing: list[tuple[int, Site]] = [
            (block, site) for block, sites in enumerate(of_blocks) for site in sites
        ]
        self._expected = [len(sites) for sites in of_blocks]
        self._running: _Running | None = None
        self._waiting: list[Projected] = []
        self._formed: list[Tensor] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Pick up what passes while the block runs."""
        sites = [site for _, site in self._passing]
        with capture(self.backbone.sites.attention, self._enter), capture(sites, self._pass):
            yield

    def formed(self) -> Tensor:
        """Return the rows of the blocks that ran, float32 [L, B, heads, Q, N], as ``attention_rows`` does."""
        self._settle()
        self._form()
        return torch.cat(self._formed)

    def _enter(self, block: int, x: Tensor, kwargs: Mapping[str, Any]) -> None:
        self._settle()
        self._running = _Running(block, x, kwargs)
        if not self._expected[block]:
            self._settle()

    def _pass(self, index: int, x: Tensor, kwargs: Mapping[str, Any]) -> None:
        running = self._running
        if running is not None and running.block == self._passing[index][0]:
            running.seen[index] = x
            if len(running.seen) == self._expected[running.block]:
                self._settle()

    def _settle(self) -> None:
        """Take queries and keys of the attention that was entered last, if they were not taken yet."""
        running, self._running = self._running, None
        if running is None:
            return
        made = self._projected(running)
        if self._waiting and self._waiting[0].keys.shape != made.keys.shape:
            self._form()
        self._waiting.append(made)
        if sum(each.keys.untyped_storage().nbytes() for each in self._waiting) > MOST_WAITING:
            self._form()

    def _projected(self, running: _Running) -> Projected:
        """Return the queries that are wanted, and all keys: those that passed, or from the input."""
        module, x, way = self._modules[running.block], running.x, self.backbone.query_key
        rows = self._rows(x.shape[1])
        if way.picked_up is not None and 0 < len(running.seen) == self._expected[running.block]:
            seen = [x for _, x in sorted(running.seen.items())]
            q, k, scale = way.picked_up(module, seen, running.kwargs, rows)
            return Projected(q * scale, beside_bias(module, k), x.shape[1])
        few = rows.stop is not None and rows.stop * self.backbone.num_heads < x.shape[2]
        if way.back is not None and few and extra_key(module) is None:
            q, scale = way.back(module, x, rows)
            return Projected((q * scale).flatten(1, 2)[:, None], x[:, None], x.shape[1], q.shape[1])
        whole = project(self.backbone, module, x, running.kwargs)
        return Projected(whole.queries[:, :, rows], whole.keys, x.shape[1])

    def _form(self) -> None:
        """Form the rows of the blocks that wait."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        first, many = waiting[0], len(waiting) > 1
        queries = torch.cat([each.queries for each in waiting]) if many else first.queries
        keys = torch.cat([each.keys for each in waiting]) if many else first.keys
        rows = Projected(queries, keys, first.length, first.heads).rows(slice(None))
        self._formed.append(rows.unflatten(0, (len(waiting), -1)))
