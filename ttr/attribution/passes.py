"""One watched pass, and each block's attention A formed again from it, with ds/dA where a score s is asked.

The model runs as it is, fused attention included, so no A stands in its graph. But all that an attention
module does with A is known (:mod:`ttr.backbones.mixing`): its heads mix values, O = A V, and its output is
W (norm(O) * gate) + b. So from what the module was given and the gradient at its output follow

    A = softmax(q k^T * d^-1/2),      ds/dA = (ds/dO) V^T,   head by head,

without a second pass and without a graph of A, a block at a time: memory is N^2, never L N^2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.backbones.extra_key import beside_extra_value
from ttr.errors import ModelError
from ttr.forward.attention import beside_bias
from ttr.hooks import Site, bypass, capture, evaluation_mode, keep
from ttr.tokens import TokenLayout


@dataclass
class Pass:
    """What one pass left behind; the tensors carry the model's graph where gradients are wanted.

    Attributes:
        backbone: whose.
        layout: the tokens of this pass, test-time registers included.
        images: what the model was given, [B, 3, H, W].
        feature: the global feature, [B, D].
        inputs: of each block's attention, [B, N, D], and its keyword arguments.
        outputs: of each block's attention, [B, N, D].
        blocks: output of each block, [B, N, D].
        entered: what the last block was given, [B, N, D].
    """

    backbone: Backbone
    layout: TokenLayout
    images: Tensor
    feature: Tensor
    inputs: list[tuple[Tensor, Mapping[str, Any]]]
    outputs: list[Tensor]
    blocks: list[Tensor]
    entered: Tensor

    @torch.no_grad()
    def attention(self, block: int) -> Tensor:
        """Return A of a block, [B, heads, N, N], float32 at least; an attention bias's column is left out."""
        return self._weights(block)[..., : self.layout.length]

    @torch.no_grad()
    def attention_gradient(self, block: int, of_output: Tensor) -> Tensor:
        """Return ds/dA of a block, [B, heads, N, N], for ds/d(its attention's output), [B, N, D]."""
        x, kwargs = self.inputs[block]
        module = self.backbone.sites.attention[block].module
        values = beside_extra_value(module, self.backbone.mixing.value(module, x, kwargs))
        gradient = self._of_mix(block, values, of_output) @ values.transpose(-2, -1)
        return gradient[..., : self.layout.length]

    def feature_of(self, tokens: Tensor) -> Tensor:
        """Return the feature [B, D] that the model makes of a last block's output [B, N, D].

        The model's own pooling, norms and projections run; its blocks do not.
        """
        blocks = [site.module for site in self.backbone.sites.blocks]
        with bypass(blocks, tokens):
            return self.backbone.features(self.images.detach())

    def _of_mix(self, block: int, values: Tensor, of_output: Tensor) -> Tensor:
        """Return ds/dO, [B, heads, N, d]: what is behind O runs again, and back; nothing else does."""
        module: Any = self.backbone.sites.attention[block].module
        output = self.backbone.mixing.output(module)
        x = self.inputs[block][0].detach()
        if output.norm is None:  # linear in O, whose values are none of the gradient's business
            mix = values.new_zeros(*values.shape[:2], x.shape[1], values.shape[3])
        else:
            mix = self._weights(block).to(values) @ values
        with torch.enable_grad():
            mix = mix.detach().requires_grad_()
            given = output(mix.transpose(1, 2).flatten(2), x)
        return torch.autograd.grad(given, mix, of_output)[0]

    def _weights(self, block: int) -> Tensor:
        x, kwargs = self.inputs[block]
        module = self.backbone.sites.attention[block].module
        q, k, scale = self.backbone.query_key(module, x, kwargs)
        logits = (q * scale) @ beside_bias(module, k).transpose(-2, -1)
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim=-1)


@contextmanager
def watched(backbone: Backbone, images: Tensor, *, gradients: bool) -> Iterator[Pass]:
    """Run ``images`` [B, 3, H, W] once and yield the :class:`Pass`; the block runs as the pass did.

    The caller's mode (no_grad, inference_mode) is left outside. Nothing is asked of the model's parameters,
    so none of them gains a gradient, and the model itself may ask for none.

    Raises:
        ModelError: the model does not run each of its blocks once, or images that do not fit.
        ImageError: no tensor of finite floats.
    """
    given = backbone.prepare(images)
    inputs: list[tuple[Tensor, Mapping[str, Any]]] = []
    sites = backbone.sites
    with torch.inference_mode(False), torch.set_grad_enabled(gradients), evaluation_mode(backbone.model):
        given = given.detach().clone().requires_grad_(gradients)
        with ExitStack() as stack:
            stack.enter_context(capture(sites.attention, lambda _, x, kwargs: inputs.append((x, kwargs))))
            outputs = stack.enter_context(keep([Site(site.module, "output") for site in sites.attention]))
            entered = stack.enter_context(keep([Site(sites.blocks[-1].module, "input")]))
            blocks = stack.enter_context(keep(sites.blocks))
            feature = backbone.features(given)
        if {len(inputs), len(outputs), len(blocks)} != {backbone.num_layers}:
            raise ModelError(
                f"{backbone.name} ran {len(blocks)} of {backbone.num_layers} blocks where they could be "
                "seen; needed each of them once: give the model from before it was compiled or cut short"
            )
        layout = backbone.layout_of(given, blocks[-1].shape[1])
        yield Pass(backbone, layout, given, feature, inputs, outputs, blocks, entered[0])


def slopes(seen: Pass, scores: Tensor, of: Sequence[Tensor], *, again: bool = False) -> list[Tensor]:
    """Return the gradients of scores [B] for some tensors of the pass; every image has its own score.

    Args:
        seen: the pass.
        scores: made of it.
        of: for which tensors.
        again: whether the graph is wanted once more.

    Raises:
        ModelError: no gradient comes there.
    """
    found: Sequence[Tensor | None] = [None] * len(of)
    if scores.requires_grad:
        found = torch.autograd.grad(scores.sum(), of, retain_graph=again, allow_unused=True)
    given = [x for x in found if x is not None]
    if len(given) < len(of):
        raise ModelError(
            f"no gradient comes through {seen.backbone.name}: something in its forward detaches "
            "(torch.no_grad, quantised layers); choose a method that needs none, such as "
            "'rollout' or 'perturbation'"
        )
    return given
