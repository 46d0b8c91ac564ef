"""State dicts as people save them, brought to the names that timm and open_clip read.

What surrounds a backbone is taken off: the dictionary of a training run, the prefix of whatever module held
it, heads and decoders beside it. Published names of transformers become those of the original code, which
timm reads. Nothing of the backbone itself is ever dropped here, and what is left out is listed, to be said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ttr.errors import ModelError

#: Where training checkpoints keep the weights; where two are there, the average that such runs are judged by.
_WRAPPERS = (
    *("state_dict_ema", "model_ema", "ema", "teacher", "target_encoder"),
    *("state_dict", "model_state_dict", "model", "module", "encoder", "net", "student"),
)
#: What torch.compile, FSDP and checkpointing put into names, at any depth.
_INSIDE = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
#: Weights that every backbone has once, in the layouts that are known: what stands before is a prefix.
_ANCHORS = (
    "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.weight",
    "embeddings.patch_embeddings.weight",
)
_CLIP_ANCHORS = ("visual.conv1.weight", "visual.trunk.patch_embed.proj.weight")
#: Beside a backbone, behind its feature: heads, what training alone needs, the decoder of masked training.
_BESIDE = re.compile(
    r"(head|heads|head_dist|fc|classifier|cls_classifier|distillation_classifier|linear|linear_head|lm_head"
    r"|projectors?|projection_head|proj_head|dino_head|ibot_head|pre_logits|pooler|predictor|criterion"
    r"|loss\w*|decoder\w*)(\.|$)"
)
#: No forward pass at test time needs these: the token of masked training, the norm of local crops, constants
#: of RoPE and of the key bias, how often an average was taken, numbers that describe OpenAI's model.
NOT_WEIGHTS = re.compile(
    r"(.*\.)?mask_token|local_cls_norm\..*|rope_embed\.periods|rope\.pos_embed_cached|blocks\.\d+\.attn\.qkv\.bias_mask"
    r"|input_resolution|context_length|vocab_size|n_averaged"
)
#: transformers' names, the old and the new ones, as the original code of DINOv2 and timm call them.
_RENAMED = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.distillation_token$", "dist_token"),
        (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
        (r"^embeddings\.patch_embeddings\.(projection\.)?", "patch_embed.proj."),
        (r"^(?:encoder\.|model\.)?layers?\.(\d+)\.", r"blocks.\1."),
        (r"\.attention\.(?:attention\.)?(?:(q)uery|(k)ey|(v)alue|(q|k|v)_proj)\.", r".attn.\1\2\3\4."),
        (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
        (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
        (r"\.layernorm_before\.", ".norm1."),
        (r"\.layernorm_after\.", ".norm2."),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"\.output\.dense\.", ".mlp.fc2."),
        (r"\.mlp\.weights_in\.", ".mlp.w12."),
        (r"\.mlp\.weights_out\.", ".mlp.w3."),
        (r"^layernorm\.", "norm."),
    )
]
#: How the original code calls the layers of an MLP that transformers calls gate_proj, up_proj, down_proj.
_PLAIN = {"up": "fc1", "down": "fc2", "gate": "gate_proj"}
_GATED = {"gate": "w1", "up": "w2", "down": "w3"}


def unwrap(content: Any, source: str) -> tuple[dict[str, Tensor], str]:
    """Return the state dict in what was saved, and where it lay among others like it ("" when alone).

    Raises:
        ModelError: no dictionary of tensors by name.
    """
    taken = ""
    for _ in range(len(_WRAPPERS)):
        inner = [
            key for key in _WRAPPERS if isinstance(content, Mapping) and isinstance(content.get(key), Mapping)
        ]
        if not inner:
            break
        taken = f"its {inner[0]}" if len(inner) > 1 else taken
        content = content[inner[0]]
    rows = content.items() if isinstance(content, Mapping) else ()
    state = {key: value for key, value in rows if isinstance(key, str) and isinstance(value, Tensor)}
    if not state:
        kinds = {type(value).__name__ for _, value in rows} & {"ndarray"}
        remedy = "make tensors of its arrays (torch.from_numpy)" if kinds else "re-save model.state_dict()"
        raise ModelError(f"{source} holds no state dict of tensors; {remedy}")
    return state, taken


def take_backbone(
    state: dict[str, Tensor], source: str, *, clip: bool
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the backbone's weights without their prefix, and the names of what lay beside it.

    Raises:
        ModelError: there are several backbones, and nothing says which is meant.
    """
    bare = {_INSIDE.sub("", key): value for key, value in state.items()}
    if len(bare) < len(state):
        raise ModelError(f"{source} holds weights twice, compiled and bare; save one state dict of them")
    prefixes = sorted(
        {
            key.removesuffix(anchor)
            for anchor in (_CLIP_ANCHORS if clip else _ANCHORS)
            for key in bare
            if key == anchor or key.endswith(f".{anchor}")
        }
    )
    if len(prefixes) > 1:
        found = ", ".join(prefix.rstrip(".") or "without a prefix" for prefix in prefixes)
        raise ModelError(f"{source} holds several backbones ({found}); save the state dict of the one meant")
    if not prefixes:
        return {re.sub(r"^(module\.)+", "", key): value for key, value in bare.items()}, ()
    own = prefixes[0]
    inner = {key.removeprefix(own): value for key, value in bare.items() if key.startswith(own)}
    outer = (key for key in bare if not key.startswith(own) and not NOT_WEIGHTS.fullmatch(key))
    return inner, _parts(outer, own)


def leave_out(
    state: Mapping[str, Tensor], expected: Iterable[str]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return all but what lies beside a backbone and no model expects; and the names of that."""
    known = set(expected)
    beside = {key for key in state if key not in known and _BESIDE.match(key)}
    rest = {key: value for key, value in state.items() if key not in beside}
    return rest, _parts((key for key in beside if not NOT_WEIGHTS.fullmatch(key)), "")


def _parts(keys: Iterable[str], beside: str) -> tuple[str, ...]:
    """Name the modules that keys belong to, as far as it takes to tell them from what they lie beside."""
    own, found = beside.split("."), set()
    for parts in (re.sub(r"^decoder\w*", "decoder", key).split(".") for key in keys):
        common = next((i for i, (a, b) in enumerate(zip(parts, own, strict=False)) if a != b), 0)
        found.add(".".join(parts[: common + 1]))
    return tuple(sorted(found))


def original_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of transformers' ViT, DeiT, DINOv2 or DINOv3 under original names; others as they are.

    Queries, keys and values become one matrix. The blocks of DINOv2's training, which lie in chunks
    (blocks.CHUNK.BLOCK), are counted through.
    """
    if not any(anchor in state for anchor in _ANCHORS[1:]):
        return {re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", key): x for key, x in state.items()}
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        for pattern, name in _RENAMED:
            key = pattern.sub(name, key)
        renamed[key] = value
    dinov3 = "register_tokens" in renamed and "pos_embed" not in renamed
    if dinov3:
        renamed["storage_tokens"] = renamed.pop("register_tokens")
    elif "register_tokens" in renamed:  # timm knows the original's layout by the token of masked training
        renamed.setdefault("mask_token", torch.zeros(1))
    gated = any(".mlp.gate_proj." in key for key in renamed)
    ours = _GATED if gated else _PLAIN
    renamed = {
        re.sub(r"(?<=\.mlp\.)(gate|up|down)_proj\.", lambda theirs: f"{ours[theirs[1]]}.", key): value
        for key, value in renamed.items()
    }
    _join(renamed, "qkv", "qkv", unbiased="k" if dinov3 else "")
    if gated and not dinov3:
        _join(renamed, ("w1", "w2"), "w12")
    return renamed


def _join(state: dict[str, Tensor], parts: Sequence[str], whole: str, unbiased: str = "") -> None:
    """Put the rows of linear layers into one, wherever they stand; the one that never has a bias gets zeros.

    Where another is missing, all stay what they are: the architecture will miss them by name.
    """
    first = f".{parts[0]}."
    for place, kind in [key.split(first) for key in state if first in key]:
        names = {part: f"{place}.{part}.{kind}" for part in parts}
        if kind == "bias" and unbiased:
            state.setdefault(names[unbiased], torch.zeros_like(state[names[parts[0]]]))
        if all(name in state for name in names.values()):
            state[f"{place}.{whole}.{kind}"] = torch.cat([state.pop(name) for name in names.values()])


def timm_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return what weights say of the architecture that timm leaves to arguments: head, pooling, layer scale.

    Nothing is said of weights in a layout that timm does not build itself.
    """
    patches = state.get("patch_embed.proj.weight")
    if patches is None or not any(key.startswith("blocks.0.") for key in state):
        return {}
    head = state.get("head.weight")
    fits = head is not None and head.ndim == 2 and head.shape[1] == len(patches) and "head.bias" in state
    options: dict[str, Any] = {"num_classes": len(head) if head is not None and fits else 0}
    if "fc_norm.weight" in state and "norm.weight" not in state and "attn_pool.q.weight" not in state:
        options["global_pool"] = "avg"
    if "blocks.0.ls1.gamma" in state:
        options["init_values"] = 1e-5
    return options
