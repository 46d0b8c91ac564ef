"""One batched pass of the model, and what was asked for on the way: norms, attention, neurons.

``record`` is the single way by which ttr looks inside a model. It runs the caller's own forward once and
keeps its result and what was asked for: the norms of every token at every block (fp32) and the CLS rows of
every attention. MLP activations are four times as wide as tokens and are not kept: an observer sees them as
they pass, and ``activations_at`` computes them again for the few tokens that turn out to matter. All of it
belongs to one batch, so memory does not grow with the number of images.

``watch_pass`` does the same and never waits for the device, whatever the number of blocks and images. Whether
the norms are finite is then the caller's to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ttr.backbones.base import Backbone
from ttr.backbones.finite import not_finite
from ttr.backbones.transfer import ask, send
from ttr.errors import ModelError
from ttr.forward.rows_of_blocks import RowsOfBlocks
from ttr.hooks import capture, evaluation_mode, keep
from ttr.norms import token_norms
from ttr.tokens import TokenLayout


@dataclass
class Record:
    """What one pass of a batch left behind; empty where it was not asked for.

    Attributes:
        layout: the tokens of this pass, test-time registers included.
        norms: L2 norm of every token at each block's output, float32 [L, B, N].
        attention: attention of CLS, or of every token ahead of the patches (CLS first, then trained and
            test-time registers), over all tokens, float32 [L, B, heads, Q, N].
        embedding: global feature of each image, [B, D], as ``Backbone.embed`` returns it.
        mlp_inputs: what each block's MLP was given, one [B, N, D] a block, in the model's type.
    """

    layout: TokenLayout
    norms: Tensor
    attention: Tensor
    embedding: Tensor
    mlp_inputs: list[Tensor] = field(default_factory=list)

    @property
    def cls_attention(self) -> Tensor:
        """Attention of the CLS query over all tokens, float32 [L, B, heads, N]."""
        return self.attention[:, :, :, 0]

    def cpu(self) -> Record:
        """Return this record on the host, brought there at once and not image by image."""
        return Record(
            self.layout,
            self.norms.cpu(),
            self.attention.cpu(),
            self.embedding.cpu(),
            [x.cpu() for x in self.mlp_inputs],
        )

    def finite(self) -> Tensor:
        """Return at which blocks all norms are finite, bool [L]."""
        return self.norms.isfinite().flatten(1).all(dim=1)


@torch.no_grad()
def record(
    backbone: Backbone,
    images: Tensor,
    *,
    attention: bool | Literal["ahead"] = False,
    neurons: Callable[[int, Tensor], None] | None = None,
) -> Record:
    """Run ``images`` [B, 3, H, W] through the model once and return a :class:`Record`.

    Norms are always taken. ``attention`` adds the CLS rows, ``attention="ahead"`` those of the registers too.
    ``neurons`` is called with (block, activations [B, N, hidden]) as they reach the down-projection, and the
    MLP inputs are kept. An installed wrap takes part.

    Raises:
        ModelError: attention of CLS was asked of a model without CLS, norms are not finite, or the model has
            no values.
    """
    backbone.check_batch(images)
    passed = watch_pass(backbone, send(images, backbone.device), attention=attention, neurons=neurons)
    refuse_overflow(backbone, images, ask(passed.finite())())
    return passed


@torch.no_grad()
def watch_pass(
    backbone: Backbone,
    images: Tensor,
    *,
    attention: bool | Literal["ahead"] = False,
    neurons: Callable[[int, Tensor], None] | None = None,
) -> Record:
    """Do what :func:`record` does, of images on the model's device, and leave open whether all is finite."""
    backbone.require_values()
    if attention:
        backbone.require_cls()
    images = images.to(backbone.dtype)
    mlp_inputs: list[Tensor] = []
    bare = backbone.layout_for(images)

    def queries(length: int) -> slice:
        return bare.for_length(length).where("ahead" if attention == "ahead" else "cls")

    rows = RowsOfBlocks(backbone, queries) if attention else None

    lengths: set[int] = set()

    def see_neurons(index: int, x: Tensor, kwargs: Mapping[str, Any]) -> None:
        assert neurons is not None
        if x.shape[1] not in lengths:
            bare.for_length(x.shape[1])  # as many patches as the image has, or a refusal
            lengths.add(x.shape[1])
        neurons(index, x)

    with ExitStack() as stack:
        stack.enter_context(evaluation_mode(backbone.model))
        norms = stack.enter_context(keep(backbone.sites.blocks, token_norms))
        if rows is not None:
            stack.enter_context(rows.watched())
        if neurons is not None:
            mlp_inputs = stack.enter_context(keep(backbone.sites.mlps))
            stack.enter_context(capture(backbone.sites.neurons, see_neurons))
        embedding = backbone.features(images)
    returned = [x.shape[1] for x in norms]
    if len(set(returned)) > 1:
        raise ModelError(
            f"the blocks of {backbone.name} return {', '.join(map(str, returned))} tokens; needed the same "
            "number at every block: take off what merges or drops tokens on the way"
        )
    stacked = torch.stack(norms)
    return Record(
        layout=backbone.layout_of(images, stacked.shape[2]),
        norms=stacked,
        attention=stacked.new_empty(0, 0, 0, 1, 0) if rows is None else rows.formed(),
        embedding=embedding,
        mlp_inputs=mlp_inputs,
    )


def refuse_overflow(backbone: Backbone, images: Tensor, finite: np.ndarray) -> None:
    """Raise an error unless the norms of a pass were finite at every block, bool [L].

    Raises:
        ImageError: the images [B, 3, H, W] are not.
        ModelError: they are.
    """
    if finite.all():
        return
    if not images.isfinite().all():
        raise not_finite()
    raise ModelError(
        f"{backbone.name} gives token norms that are not finite from block {int(finite.argmin())} on, "
        f"in {backbone.dtype}; check its weights, or load it with dtype=torch.float32"
    )


@torch.no_grad()
def activations_at(backbone: Backbone, tokens: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the neuron activations [K, hidden] of each block's MLP for its inputs [K, D].

    The MLPs are run by themselves and left as soon as the activations are there.
    """

    def leave(index: int, x: Tensor, kwargs: Mapping[str, Any]) -> None:
        raise _Reached(x[0])

    with evaluation_mode(backbone.model), capture(backbone.sites.neurons, leave):
        for layer, (mlp, inputs) in enumerate(zip(backbone.sites.mlps, tokens, strict=True)):
            yield _left(mlp.module, inputs[None], layer)


def _left(mlp: nn.Module, inputs: Tensor, layer: int) -> Tensor:
    try:
        mlp(inputs)
    except _Reached as reached:
        return reached.activations
    raise ModelError(f"the MLP of block {layer} never reached its down-projection")


class _Reached(Exception):  # noqa: N818
    """Carries the activations out of an MLP's forward."""

    def __init__(self, activations: Tensor) -> None:
        self.activations = activations
