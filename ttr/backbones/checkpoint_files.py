"""Weights from a local file, read without executing anything in it, into a model whose every key must match.

Safetensors, or a torch checkpoint through ``weights_only=True``. The position embedding of another image size
is resampled as timm and open_clip do for their own files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ttr.errors import ModelError

_WRAPPERS = ("state_dict", "model", "teacher")


def load_file(model: nn.Module, path: Path, name: str) -> None:
    """Load a checkpoint file into ``model``, every key and shape matching.

    Raises:
        ModelError: not a readable checkpoint, or made for another architecture.
    """
    state = _at_resolution_of(model, _unwrap(read_state(path)))
    expected = model.state_dict()
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    shapes = sorted(k for k in expected.keys() & state.keys() if expected[k].shape != state[k].shape)
    if missing or unknown or shapes:
        parts = [
            f"{len(keys)} {what} (such as {keys[0]})"
            for what, keys in (("missing", missing), ("unknown", unknown), ("of another shape", shapes))
            if keys
        ]
        raise ModelError(
            f"{path} does not hold weights of {name}: keys {', '.join(parts)}; "
            "name the architecture that the file was saved from"
        )
    model.load_state_dict(dict(state))


def _at_resolution_of(model: Any, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Resample the position embedding of another image size, as timm and open_clip do for their own files."""
    if "visual.positional_embedding" in state and hasattr(model, "visual"):
        from open_clip.model import resize_pos_embed

        resized = dict(state)
        resize_pos_embed(resized, model)
        return resized
    ours, given = getattr(model, "pos_embed", None), state.get("pos_embed")
    if ours is None or given is None or given.ndim != 3 or given.shape[1] == ours.shape[1]:
        return state
    from timm.layers import resample_abs_pos_embed

    prefix = 0 if model.no_embed_class else model.num_prefix_tokens
    side = round((given.shape[1] - prefix) ** 0.5)
    if side * side != given.shape[1] - prefix:
        return state
    grid = list(model.patch_embed.grid_size)
    return {**state, "pos_embed": resample_abs_pos_embed(given, grid, [side, side], num_prefix_tokens=prefix)}


def read_state(path: Path) -> Mapping[str, Any]:
    """Read a checkpoint without executing anything in it.

    Raises:
        ModelError: no such file, or neither safetensors nor a plain torch checkpoint.
    """
    if not path.is_file():
        raise ModelError(f"weights file {path} does not exist; give a .safetensors, .pt or .pth file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file as load_safetensors

            return load_safetensors(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(
            f"{path} is no checkpoint that can be read safely ({type(error).__name__}); "
            "needed safetensors, or a torch file of tensors alone: re-save model.state_dict()"
        ) from error


def _unwrap(state: Mapping[str, Any]) -> Mapping[str, Tensor]:
    for key in _WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError("the checkpoint holds no state dict of tensors; re-save model.state_dict()")
    return {key.removeprefix("module."): value for key, value in state.items()}
