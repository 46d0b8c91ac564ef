"""What transformers' ``config.json`` beside a file of weights says that weights alone do not.

Heads, activation and the epsilon of norms leave no trace in a state dict: an architecture of the same sizes
takes the weights whatever it computes with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttr.errors import ModelError
from ttr.files import read_json

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_fast": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
}


def follow_config(weights: Path, model: nn.Module, name: str) -> None:
    """Let a timm model be what transformers' ``config.json`` beside its weights says, if there is one.

    Its norms take the epsilon of the config: the library's ViT has 1e-12, timm's 1e-6.

    Raises:
        ModelError: it says another number of heads or activation than the model has.
    """
    try:
        config = dict(read_json(weights.parent / "config.json"))
    except (OSError, ValueError, TypeError):  # none, or none that says anything
        return
    if "model_type" not in config:
        return
    differs = [f"{key} {config[key]!r} (the architecture has {own})" for key, own in _differs(config, model)]
    if differs:
        raise ModelError(
            f"{weights.parent / 'config.json'} says {', '.join(differs)}, so {name} would compute something "
            f"else with these weights; load them as transformers:{weights.parent}"
        )
    eps = config.get("layer_norm_eps")
    if isinstance(eps, float) and 0 < eps < 1:
        for norm in model.modules():
            if isinstance(norm, nn.LayerNorm):
                norm.eps = eps


def _differs(config: dict[str, Any], model: Any) -> Iterator[tuple[str, Any]]:
    """Yield each entry that differs, and what the model has instead."""
    block = model.blocks[0]
    heads = getattr(block.attn, "num_heads", None)
    if heads is not None and config.get("num_attention_heads", heads) != heads:
        yield "num_attention_heads", heads
    active = getattr(block.mlp, "act", None)
    gated = config.get("use_swiglu_ffn")  # which is silu, whatever the entry says
    if active is not None and not gated and not _same(config.get("hidden_act"), active):
        yield "hidden_act", type(active).__name__


@torch.no_grad()
def _same(said: Any, active: nn.Module) -> bool:
    """Return whether a name, or none, means an activation; one that is not known means no other."""
    if said is None:
        return True
    if not isinstance(said, str) or said not in _ACTIVATIONS:
        return False
    x = torch.linspace(-4, 4, 65)
    return bool((_ACTIVATIONS[said](x) - active(x.clone())).abs().max() < 1e-5)
