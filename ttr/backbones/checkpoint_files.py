"""Weights from a file or a state dict, read without executing anything, into a model whose every key matches.

Safetensors, ONNX, or a torch checkpoint through ``weights_only=True``. :mod:`ttr.backbones.layouts` finds the
backbone in it. What has the model's own names is loaded as it is; any other goes through the conversion that
timm and open_clip keep for published files: the original layouts of DINOv2 (registers and SwiGLU included)
and DINOv3, OpenAI's CLIP, position embeddings of another image size. What that gives must match key by key,
and may have lost nothing but what lies beside a backbone; that is named in the origin.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ttr import checks
from ttr.backbones import layouts
from ttr.backbones.base import Origin, Weights
from ttr.backbones.layouts import NOT_WEIGHTS
from ttr.backbones.onnx_files import read_onnx
from ttr.backbones.torch_files import read_torch_file
from ttr.errors import ModelError

_POSITIONS = ("pos_embed", "visual.positional_embedding", "visual.trunk.pos_embed")
#: How the libraries and the hub call the file of weights in a directory, and how else weights end.
_NAMES = (
    *("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin"),
    "model.onnx",
)
#: What the hub's libraries call one of several files of a model.
_PART = re.compile(r".*-\d+-of-\d+\.(safetensors|bin)")
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".onnx")
#: Marks in the names of weights that something changed before they were saved, and how to have it undone.
_CHANGED = {
    "lora_": "merge LoRA into the model first (model.merge_and_unload()) and save that one's state_dict()",
    "weight_orig": "it was saved while pruned: make that last first (torch.nn.utils.prune.remove)",
    "parametrizations.": "take its parametrizations off first (torch.nn.utils.parametrize."
    "remove_parametrizations)",
    "weight_g": "take its weight norm off first (torch.nn.utils.remove_weight_norm)",
}
#: Beginnings of files that stand for weights that are not there, and what they are.
_NO_WEIGHTS = (
    (
        b"version https://git-lfs.github.com/spec/",
        "a git-lfs pointer, a few lines that stand for the file; fetch its content with: git lfs pull",
    ),
    (b"<!doctype html", "a web page; download the file itself"),
    (b"<html", "a web page; download the file itself"),
)


@dataclass(frozen=True)
class Checkpoint:
    """Weights of one backbone under names that its library reads.

    Attributes:
        source: what messages call it.
        origin: where it came from.
        beside: what lay beside the backbone and is left out.
        state: {name: tensor}.
        options: what timm must be told to build the architecture as these weights have it.
    """

    source: str
    origin: Weights
    beside: tuple[str, ...]
    state: dict[str, Tensor]
    options: Mapping[str, Any]


def load_weights(model: nn.Module, weights: str | Path | Mapping[str, Any], name: str) -> Weights:
    """Load a checkpoint file or a state dict into ``model``, every key and shape matching; return its origin.

    Raises:
        ModelError: not a readable checkpoint, or made for another architecture.
    """
    return fill(model, read_checkpoint(weights, clip=hasattr(model, "visual")), name)


def read_checkpoint(
    weights: str | Path | Mapping[str, Any], *, clip: bool, origin: Origin = "file", detail: str = ""
) -> Checkpoint:
    """Read the backbone of a checkpoint file or a state dict, for a CLIP model of open_clip or for timm.

    Raises:
        ModelError: not a readable checkpoint, no state dict, or several backbones in it.
    """
    if isinstance(weights, Mapping):
        source, content, origin, detail = "the state dict", weights, "in memory", "state dict"
    else:
        path = weights_file(Path(weights))
        source, content, detail = str(path), read_state(path), detail or path.name
    state, taken = layouts.unwrap(content, source)
    state, beside = layouts.take_backbone(state, source, clip=clip)
    state = state if clip else layouts.original_names(state)
    options = {} if clip else layouts.timm_options(state)
    return Checkpoint(
        source, Weights(origin, "; ".join(filter(None, (detail, taken)))), beside, state, options
    )


def fill(model: nn.Module, checkpoint: Checkpoint, name: str) -> Weights:
    """Load a checkpoint into ``model``, every key and shape of its own matching; return the origin.

    Raises:
        ModelError: made for another architecture, or values that are no finite floats.
    """
    source, origin, expected = checkpoint.source, checkpoint.origin, model.state_dict()
    state, beside = layouts.leave_out(checkpoint.state, expected)
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
    said = (origin.detail, _built(model, checkpoint.options), _left_out((*checkpoint.beside, *beside)))
    return Weights(origin.origin, "; ".join(part for part in said if part))


def _built(model: Any, options: Mapping[str, Any]) -> str:
    """Say how a timm model that was built as the weights have it differs from what its name stands for."""
    config = getattr(model, "pretrained_cfg", None) or {}
    if not config.get("architecture") or "num_classes" not in options:
        return ""
    classes, parts = options["num_classes"], []
    if classes != config.get("num_classes"):
        parts.append(f"head of {classes} classes" if classes else "no head")
    return ", ".join([*parts, *(["mean of the patches behind fc_norm"] if "global_pool" in options else [])])


def _left_out(beside: tuple[str, ...]) -> str:
    shown = ", ".join(beside[:4]) + (f" and {len(beside) - 4} more" if len(beside) > 4 else "")
    return f"left out: {shown}" if beside else ""


def weights_file(path: Path) -> Path:
    """Return a path as it is, and of a directory the one file of weights in it.

    Raises:
        ModelError: there is nothing, or a directory holds no weights, several, or weights in several parts.
    """
    if not path.exists():
        raise ModelError(f"weights file {path} does not exist; give a .safetensors, .pt, .pth or .onnx file")
    held = sorted(each for each in path.iterdir() if each.suffix in SUFFIXES) if path.is_dir() else [path]
    usual = [path / name for name in _NAMES if path / name in held]
    parts = [each.name for each in held if _PART.fullmatch(each.name)]
    if parts and not usual:
        place = path if path.is_dir() else path.parent
        raise ModelError(
            f"{path} holds weights in several parts (such as {parts[0]}), of which no file is a whole model; "
            f"load the directory as transformers:{place}, or save it in one part: "
            "model.save_pretrained(DIRECTORY, max_shard_size='100GB')"
        )
    if not usual and len(held) != 1:
        found = ", ".join(each.name for each in held[:4]) or "none"
        raise ModelError(f"directory {path} should hold one file of weights, found {found}; give the file")
    return (usual or held)[0]


def read_state(path: Path) -> Mapping[str, Any]:
    """Read a checkpoint without executing anything in it.

    Raises:
        ModelError: no such file, none of safetensors, ONNX or a plain torch checkpoint, or damaged.
    """
    if not path.is_file():  # a pipe would be waited for
        what = "is no regular file" if path.exists() else "does not exist"
        raise ModelError(f"weights file {path} {what}; give a .safetensors, .pt, .pth or .onnx file")
    refuse_what_stands_for_weights(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file as load_safetensors

            return load_safetensors(path)
        return read_onnx(path) if path.suffix == ".onnx" else read_torch_file(path)
    except ModelError:
        raise
    except Exception as error:
        if path.suffix == ".onnx":
            raise ModelError(
                f"{path} is no readable ONNX model ({type(error).__name__}); take an undamaged copy"
            ) from error
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        holds = f"it holds {refused[1]}" if refused else type(error).__name__
        holds = holds if path.suffix in SUFFIXES else f"a {path.suffix or 'nameless'} file"
        raise ModelError(
            f"{path} is no checkpoint that can be read safely ({holds}); "
            "needed safetensors, or a torch file of tensors alone: re-save model.state_dict()"
        ) from error


def refuse_what_stands_for_weights(path: Path) -> None:
    """Raise ModelError for an empty file, a pointer of git-lfs, or a page saved in the place of weights."""
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip().lower()
    except OSError as error:
        raise ModelError(f"weights file {path} cannot be read ({error.strerror})") from error
    if not start:
        raise ModelError(f"weights file {path} is empty; take an undamaged copy")
    for beginning, what in _NO_WEIGHTS:
        if start.startswith(beginning):
            raise ModelError(f"{path} is {what}")


def _check_types(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> None:
    """Raise ModelError unless what the model needs as floats is floats, under its names or published ones."""

    def counts(key: str, value: Tensor) -> bool:
        kind = expected[key].dtype if key in expected else value.dtype
        return kind.is_floating_point or kind.is_complex or value.layout != torch.strided

    weights = {key: value for key, value in state.items() if not NOT_WEIGHTS.fullmatch(key)}
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
    remedy = next((what for mark, what in _CHANGED.items() if any(mark in key for key in state)), None)
    return f"keys {', '.join(parts)}; {remedy or 'name the architecture that the file was saved from'}"


def _converted(model: Any, state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """Convert a published layout to the model's own; as it was where that fails or loses a weight.

    The libraries would fit patches of another size too, which makes another model of it.
    """
    kernel = "patch_embed.proj.weight"
    given, own = state.get(kernel), model.state_dict().get(kernel)
    if given is not None and own is not None and given.ndim == 4 and given.shape != own.shape:
        return state
    state = _without_absent_biases(model, state, source)
    try:
        converted = (_to_open_clip if hasattr(model, "visual") else _to_timm)(model, dict(state))
    except Exception:  # of the libraries' conversions, on files that they were not written for
        return state
    kept = {value.data_ptr() for value in converted.values()}
    lost = (k for k, v in state.items() if k not in converted and v.data_ptr() not in kept)
    return state if any(not NOT_WEIGHTS.fullmatch(key) for key in lost) else converted


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
    state = {key: value for key, value in state.items() if not NOT_WEIGHTS.fullmatch(key)}
    trunk = "visual.trunk."
    if hasattr(model.visual, "trunk"):
        tower = {k.removeprefix(trunk): v for k, v in state.items() if k.startswith(trunk)}
        rest = {k: v for k, v in state.items() if not k.startswith(trunk)}
        return rest | {trunk + k: v for k, v in _to_timm(model.visual.trunk, tower).items()}
    positions = state.get("visual.positional_embedding")
    if positions is not None and math.isqrt(len(positions) - 1) ** 2 == len(positions) - 1:
        resize_pos_embed(state, model)
    return state
