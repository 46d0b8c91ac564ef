"""One more key and value in an attention module, for as long as it is wanted: an attention bias.

Every query sees, besides the keys K and values V of the tokens, one key k' and one value v' a head:

    softmax([Q K^T, Q k'^T] * d^-1/2) [V; v'].

No token is added, so the output keeps its shape. No hook can do this, since neither a fused kernel nor
nn.MultiheadAttention lets its keys be seen. nn.MultiheadAttention has the very thing built in (``bias_k``,
``bias_v``), and gets it there. timm has not, so a stand-in takes the place of the one module's ``forward``:
the module's own projections, norms and gate around torch's attention. Hooks on the module keep working.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttr.backbones import open_clip_vit, timm_vit
from ttr.errors import ModelError

TIMM = {"Attention", "AttentionRope", "EvaAttention"}


@dataclass(eq=False)
class AttentionWithExtraKey:
    """Stands in for the ``forward`` of a timm attention module.

    Attributes:
        module: the module itself.
        key: one key a head, as it enters the softmax (after norms, not rotated), [heads, d].
        value: one value a head, [heads, d].
    """

    module: Any
    key: Tensor
    value: Tensor

    def __call__(
        self, x: Tensor, rope: Tensor | None = None, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Return what the module would with one more key, [B, N, D] -> [B, N, D].

        Raises:
            ModelError: the caller masks attention.
        """
        if attn_mask is not None or is_causal:
            raise ModelError(
                "masked attention takes no attention bias; remove the bias, or call without a mask"
            )
        own = self.module
        q, k, v, scale = timm_vit.query_key_value(own, x, {"rope": rope})
        k, v = (
            torch.cat([tokens, extra.to(tokens)[None, :, None].expand(x.shape[0], -1, -1, -1)], dim=2)
            for tokens, extra in ((k, self.key), (v, self.value))
        )
        dropout = own.attn_drop.p if own.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scale)
        y = own.norm(y.transpose(1, 2).flatten(2))
        if getattr(own, "gate", None) is not None:
            y = y * own.gate(x).sigmoid()
        return own.proj_drop(own.proj(y))


def insert_extra_key(module: Any, key: Tensor, value: Tensor) -> None:
    """Give an attention module one more key and value a head, both [heads, d].

    Raises:
        ModelError: an attention of another kind.
    """
    require_extra_key(module)
    if isinstance(module, nn.MultiheadAttention):
        weight = module.in_proj_weight
        module.bias_k, module.bias_v = (x.to(weight).reshape(1, 1, -1) for x in (key, value))
    else:
        module.forward = AttentionWithExtraKey(module, key, value)


def require_extra_key(module: Any) -> None:
    """Raise ModelError unless an attention module can be given one more key."""
    timm = type(module).__name__ in TIMM and hasattr(module, "q_norm")  # BEiT's lacks it, of the same name
    if not isinstance(module, nn.MultiheadAttention) and not timm:
        raise ModelError(
            f"attention {type(module).__name__} takes no attention bias; "
            f"needed nn.MultiheadAttention or timm's {', '.join(sorted(TIMM))}"
        )


def remove_extra_key(module: Any) -> None:
    """Take the extra key and value out again."""
    if isinstance(module, nn.MultiheadAttention):
        module.bias_k = module.bias_v = None
    else:
        vars(module).pop("forward", None)


def extra_key(module: Any) -> Tensor | None:
    """Return the extra key of an attention module, [heads, d], or None if it has none."""
    if isinstance(module, nn.MultiheadAttention):
        return None if module.bias_k is None else module.bias_k.reshape(module.num_heads, -1)
    forward = vars(module).get("forward")
    return forward.key if isinstance(forward, AttentionWithExtraKey) else None


def beside_extra_value(module: Any, values: Tensor) -> Tensor:
    """Return values [B, heads, N, d] and behind them the extra one of an attention module, if it has one."""
    if extra_key(module) is None:
        return values
    mha = isinstance(module, nn.MultiheadAttention)
    extra: Tensor = module.bias_v.reshape(module.num_heads, -1) if mha else module.forward.value
    return torch.cat([values, extra.to(values)[None, :, None].expand(len(values), -1, -1, -1)], dim=2)


def key_and_value(module: Any, x: Tensor, kwargs: Any) -> tuple[Tensor, Tensor]:
    """Return keys as they enter the softmax and values, each [B, heads, N, d], of an attention input."""
    family = open_clip_vit if isinstance(module, nn.MultiheadAttention) else timm_vit
    _, key, value, _ = family.query_key_value(module, x, kwargs)
    return key, value
