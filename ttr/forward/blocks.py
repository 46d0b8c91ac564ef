"""What the blocks of a model were given and gave during one pass, kept so that CLS can be run again.

Restricting CLS in block l changes nothing of what came before it, and in block l itself nothing but CLS. So a
pass is watched once, and what follows from another CLS is computed from what was kept. All of it belongs to
one batch; memory does not grow with the number of images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.backbones.extra_key import extra_key
from ttr.errors import ModelError
from ttr.hooks import Site, capture


@dataclass
class SeenBlock:
    """One block in one pass; every tensor [B, N, D], in the model's type.

    Attributes:
        tokens: what the block was given.
        arguments: its keyword arguments (the rotary embedding).
        normed: what its attention was given, after the block's first norm.
        attention_arguments: the attention's keyword arguments.
        attended: what the attention gave, before the layer scale.
        returned: that in the container in which it came, which holds nothing else.
        output: what the block gave.
    """

    tokens: Tensor = field(default_factory=lambda: torch.empty(0))
    arguments: Mapping[str, Any] = field(default_factory=dict)
    normed: Tensor = field(default_factory=lambda: torch.empty(0))
    attention_arguments: Mapping[str, Any] = field(default_factory=dict)
    attended: Tensor = field(default_factory=lambda: torch.empty(0))
    returned: Any = None
    output: Tensor = field(default_factory=lambda: torch.empty(0))


@contextmanager
def watch(backbone: Backbone, first: int) -> Iterator[dict[int, SeenBlock]]:
    """Watch the blocks from ``first`` to the last for one pass; yield {block: what was seen of it}.

    What is computed from it runs behind this block, and inside that of the wrap if there is one.

    Raises:
        ModelError: the model has no CLS token, or carries an attention bias, whose share is no token's;
            or a block runs a second time.
    """
    backbone.require_cls()
    sites = backbone.sites
    if any(extra_key(site.module) is not None for site in sites.attention):
        raise ModelError(f"{backbone.name} carries an attention bias, which is no token; remove() it first")
    seen = {block: SeenBlock() for block in range(first, backbone.num_layers)}

    def before(index: int, x: Tensor, kwargs: Mapping[str, Any]) -> None:
        if seen[first + index].tokens.numel():
            raise ModelError("a watched block ran twice; watch one pass, and compute behind the with block")
        seen[first + index].tokens, seen[first + index].arguments = x, kwargs

    def attention(index: int, x: Tensor, kwargs: Mapping[str, Any]) -> None:
        seen[first + index].normed, seen[first + index].attention_arguments = x, kwargs

    def attended(index: int, result: Any, kwargs: Mapping[str, Any]) -> None:
        several = isinstance(result, tuple)
        seen[first + index].attended = result[0] if several else result
        # Maps may stand beside it, which are large.
        seen[first + index].returned = (result[0], *(None for _ in result[1:])) if several else result

    def after(index: int, x: Tensor, kwargs: Mapping[str, Any]) -> None:
        seen[first + index].output = x

    blocks, attentions = sites.blocks[first:], sites.attention[first:]
    with ExitStack() as stack:
        stack.enter_context(capture([Site(site.module, "input") for site in blocks], before))
        stack.enter_context(capture(attentions, attention))
        stack.enter_context(capture([Site(site.module, "result") for site in attentions], attended))
        stack.enter_context(capture(blocks, after))
        yield seen
