"""Weights from a file or a state dict, read without executing anything, into a model whose every key matches.

Safetensors, or a torch checkpoint through ``weights_only=True``. A file in the model's own layout is loaded
as it is. Any other goes through the conversion that timm and open_clip keep for published files: the original
layouts of DINOv2 (registers and SwiGLU included) and DINOv3, OpenAI's CLIP, position embeddings of another
image size. What that gives must match key by key, and may have lost nothing but what training alone uses.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ttr import checks
from ttr.backbones.base import Weights
from ttr.backbones.torch_files import read_torch_file
from ttr.errors import ModelError

_WRAPPERS = ("state_dict", "model", "teacher")
#: Heads of DINOv2's training checkpoints, beside the backbone in them.
_TRAINING_HEADS = re.compile(r"(dino|ibot)_head\.")
#: No forward pass at test time needs these: the token of masked training, the norm of local crops, constants
#: of RoPE and of the key bias, numbers that describe OpenAI's model.
_NOT_WEIGHTS = re.compile(
    r"mask_token|local_cls_norm\..*|rope_embed\.periods|blocks\.\d+\.attn\.qkv\.bias_mask"
    r"|input_resolution|context_length|vocab_size"
)
_POSITIONS = ("pos_embed", "visual.positional_embedding", "visual.trunk.pos_embed")


def load_weights(model: nn.Module, weights: str | Path | Mapping[str, Any], name: str) -> Weights:
    """Load a checkpoint file or a state dict into ``model``, every key and shape matching; return its origin.

    Raises:
        ModelError: not a readable checkpoint, or made for another architecture.
    """
    if isinstance(weights, Mapping):
        source, origin, given = "the state dict", Weights("in memory", "state dict"), weights
    else:
        path = Path(weights)
        source, origin, given = str(path), Weights("file", path.name), read_state(path)
    state, expected = _unwrap(given, source), model.state_dict()
    _check_types(state, expected, source)
    if _mismatch(state, expected):
        state = _converted(model, state, source)
    problem = _mismatch(state, expected)
    if problem:
        raise ModelError(f"{source} does not hold weights of {name}: {problem}")
    _check_types(state, expected, source)
    parameters = {key for key, _ in model.named_parameters(remove_duplicate=False)}
    checks.finite(source, {key: value for key, value in state.items() if key in parameters})
    model.load_state_dict(dict(state))
    return origin


def read_state(path: Path) -> Mapping[str, Any]:
    """Read a checkpoint without executing anything in it.

    Raises:
        ModelError: no such file, neither safetensors nor a plain torch checkpoint, or damaged.
    """
    if not path.is_file():
        raise ModelError(f"weights file {path} does not exist; give a .safetensors, .pt or .pth file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file as load_safetensors

            return load_safetensors(path)
        return read_torch_file(path)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"{path} is no checkpoint that can be read safely ({type(error).__name__}); "
            "needed safetensors, or a torch file of tensors alone: re-save model.state_dict()"
        ) from error


def _unwrap(state: Any, source: str) -> dict[str, Tensor]:
    """Take the state dict out of a training checkpoint, and the prefixes of its wrappers off the keys."""
    for key in _WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    rows = state.items() if isinstance(state, Mapping) else ()
    if not rows or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in rows):
        raise ModelError(f"{source} holds no state dict of tensors; re-save model.state_dict()")
    state = {re.sub(r"^(module\.|_orig_mod\.)+", "", key): value for key, value in state.items()}
    backbone = {key: value for key, value in state.items() if not _TRAINING_HEADS.match(key)}
    if backbone and all(key.startswith("backbone.") for key in backbone):
        state = {key.removeprefix("backbone."): value for key, value in backbone.items()}
    return state


def _check_types(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> None:
    """Raise ModelError unless what the model needs as floats is floats, under its names or published ones."""

    def counts(key: str, value: Tensor) -> bool:
        kind = expected[key].dtype if key in expected else value.dtype
        return kind.is_floating_point or kind.is_complex or value.layout != torch.strided

    weights = {key: value for key, value in state.items() if not _NOT_WEIGHTS.fullmatch(key)}
    checks.floats(source, {key: value for key, value in weights.items() if counts(key, value)})


def _mismatch(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Say how keys and shapes differ from those expected and what to do; "" when they agree."""
    shapes = [k for k in expected.keys() & state.keys() if expected[k].shape != state[k].shape]
    found = (
        (expected.keys() - state.keys(), "missing"),
        (state.keys() - expected.keys(), "unknown"),
        (shapes, "of another shape"),
    )
    parts = [f"{len(keys)} {what} (such as {min(keys)})" for keys, what in found if keys]
    if not parts:
        return ""
    if len(parts) == 1 and len(shapes) == 1 and shapes[0] in _POSITIONS:
        given, needed = (tuple(each[shapes[0]].shape) for each in (state, expected))
        return (
            f"{shapes[0]} {given} cannot be resampled to {needed}, its grid is unknown; "
            "use the image size that the file was saved at"
        )
    return f"keys {', '.join(parts)}; name the architecture that the file was saved from"


def _converted(model: Any, state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """Convert a published layout to the model's own; as it was where that fails or loses a weight."""
    state = _without_absent_biases(model, state, source)
    try:
        converted = (_to_open_clip if hasattr(model, "visual") else _to_timm)(model, dict(state))
    except Exception:  # of the libraries' conversions, on files that they were not written for
        return state
    kept = {value.data_ptr() for value in converted.values()}
    lost = (k for k, v in state.items() if k not in converted and v.data_ptr() not in kept)
    return state if any(not _NOT_WEIGHTS.fullmatch(key) for key in lost) else converted


def _without_absent_biases(model: Any, state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """Drop DINOv3's query and value biases for a model without them, provided that they are zero."""
    from timm.models.eva import Eva

    if not isinstance(model, Eva) or "storage_tokens" not in state:
        return state
    if getattr(model.blocks[0].attn, "q_bias", None) is not None:
        return state
    biases = {key for key in state if key.endswith("attn.qkv.bias")}
    for key in sorted(biases):
        query, _, value = state[key].chunk(3)
        if query.any() or value.any():
            raise ModelError(
                f"{source} holds biases ({key}) that this model lacks; name the architecture with _qkvb"
            )
    return {key: value for key, value in state.items() if key not in biases}


def _to_timm(model: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    from timm.models import eva, vision_transformer

    # DINOv2 trains with its blocks in chunks: blocks.CHUNK.BLOCK.
    state = {re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", key): value for key, value in state.items()}
    if isinstance(model, eva.Eva):
        return eva.checkpoint_filter_fn(state, model)
    if isinstance(model, vision_transformer.VisionTransformer):
        return vision_transformer.checkpoint_filter_fn(state, model)
    return state


def _to_open_clip(model: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed

    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    for key in ("logit_scale", "logit_bias"):
        ours = getattr(model, key, None)
        if key in state and ours is not None and state[key].numel() == ours.numel():
            state[key] = state[key].reshape(ours.shape)
    state = {key: value for key, value in state.items() if not _NOT_WEIGHTS.fullmatch(key)}
    trunk = "visual.trunk."
    if hasattr(model.visual, "trunk"):
        tower = {k.removeprefix(trunk): v for k, v in state.items() if k.startswith(trunk)}
        rest = {k: v for k, v in state.items() if not k.startswith(trunk)}
        return rest | {trunk + k: v for k, v in _to_timm(model.visual.trunk, tower).items()}
    positions = state.get("visual.positional_embedding")
    if positions is not None and math.isqrt(len(positions) - 1) ** 2 == len(positions) - 1:
        resize_pos_embed(state, model)
    return state
