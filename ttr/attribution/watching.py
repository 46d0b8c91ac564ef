"""One watched pass, and each block's attention A formed again from it, with dL/dA where a score L is asked.

The model runs as it is, fused attention included, so no A exists in its graph. But all that is done to A
inside one attention module is known (:mod:`ttr.backbones.mixing`): output = W (norm(A V) * gate) + b. So what
the module was given and dL/d(output) are enough, a block at a time: N^2 numbers are held, never L N^2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.backbones.extra_key import extra_key, extra_value
from ttr.forward.attention import beside_bias
from ttr.hooks import Site, capture, evaluation_mode, keep
from ttr.tokens import TokenLayout


@dataclass
class Pass:
    """What one pass left behind.

    Attributes:
        backbone: whose.
        layout: the tokens of this pass, test-time registers included.
        images: what the model was given, [B, 3, H, W]; gradients can be asked of it.
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

    def attention(self, block: int) -> Tensor:
        """Return A of a block, float32 at least, [B, heads, N, N]; an attention bias's column is left out."""
        with torch.no_grad():
            return self._weights(block)[..., : self.layout.length]

    def attention_and_gradient(self, block: int, of_output: Tensor) -> tuple[Tensor, Tensor]:
        """Return A of a block and dL/dA, both [B, heads, N, N], of dL/d(the attention's output) [B, N, D]."""
        x, kwargs = self.inputs[block]
        module: Any = self.backbone.sites.attention[block].module
        x = x.detach()
        with torch.no_grad():
            values = _beside_extra_value(module, self.backbone.mixing.value(module, x, kwargs))
            weights = self._weights(block)
        weights.requires_grad_()
        with torch.enable_grad():
            mix = (weights.to(values) @ values).transpose(1, 2).flatten(2)
            output = self.backbone.mixing.output(module)(mix, x)
        (gradient,) = torch.autograd.grad(output, weights, of_output)
        held = slice(self.layout.length)
        return weights.detach()[..., held], gradient[..., held]

    def _weights(self, block: int) -> Tensor:
        x, kwargs = self.inputs[block]
        module = self.backbone.sites.attention[block].module
        q, k, scale = self.backbone.query_key(module, x.detach(), kwargs)
        logits = (q * scale) @ beside_bias(module, k).transpose(-2, -1)
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim=-1)


@dataclass
class _Kept:
    inputs: list[tuple[Tensor, Mapping[str, Any]]] = field(default_factory=list)

    def __call__(self, index: int, x: Tensor, kwargs: Mapping[str, Any]) -> None:
        self.inputs.append((x, kwargs))


@contextmanager
def watched(backbone: Backbone, images: Tensor, *, gradients: bool) -> Iterator[Pass]:
    """Run ``images`` [B, 3, H, W] once and yield the :class:`Pass`; the block runs with gradients on.

    The caller's mode (no_grad, inference_mode) is left outside, and the model's own parameters collect
    nothing: gradients are asked of a copy of the images and of what passed.
    """
    backbone.require_values()
    given = backbone.prepare(images)
    inputs = _Kept()
    with torch.inference_mode(False), torch.set_grad_enabled(gradients), evaluation_mode(backbone.model):
        given = given.detach().clone().requires_grad_(gradients)
        with ExitStack() as stack:
            stack.enter_context(capture(backbone.sites.attention, inputs))
            outputs = stack.enter_context(keep(_outputs(backbone)))
            entered = stack.enter_context(keep(_entering(backbone)))
            blocks = stack.enter_context(keep(backbone.sites.blocks))
            feature = backbone.features(given)
        layout = backbone.layout_of(given, blocks[-1].shape[1])
        yield Pass(backbone, layout, given, feature, inputs.inputs, outputs, blocks, entered[0])


def _outputs(backbone: Backbone) -> list[Site]:
    return [Site(site.module, "output") for site in backbone.sites.attention]


def _entering(backbone: Backbone) -> list[Site]:
    return [Site(backbone.sites.blocks[-1].module, "input")]


def _beside_extra_value(module: Any, values: Tensor) -> Tensor:
    """Return values [B, heads, N, d] and behind them that of the attention bias, if one stands."""
    value = extra_value(module)
    if extra_key(module) is None or value is None:
        return values
    return torch.cat([values, value.to(values)[None, :, None].expand(len(values), -1, -1, -1)], dim=2)
