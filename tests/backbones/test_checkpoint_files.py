"""Weights in the layouts that others publish, against forward passes written here for those layouts."""

from __future__ import annotations

import json
import re

import numpy as np
import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

import ttr
from tests.tools import torch_hub
from tests.tools.tiny_models import DINOV3, scramble, tiny_clip, tiny_eva, tiny_vit
from ttr.backbones.checkpoint_files import load_weights
from ttr.errors import ModelError

WIDTH, DEPTH, HEADS, PATCH, GRID = 24, 3, 2, 8, 4
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def original_dinov2(registers: int = 0, swiglu: bool = False, grid: int = GRID) -> dict[str, Tensor]:
    """Random weights under the names and shapes of facebookresearch/dinov2."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * (1.5 * shape[-1] ** -0.5 if len(shape) == 2 else 0.5)

    def linear(name: str, rows: int, columns: int) -> dict[str, Tensor]:
        return {f"{name}.weight": draw(rows, columns), f"{name}.bias": draw(rows)}

    def norm(name: str) -> dict[str, Tensor]:
        return {f"{name}.weight": 1 + draw(WIDTH), f"{name}.bias": draw(WIDTH)}

    state = {"cls_token": draw(1, 1, WIDTH), "pos_embed": draw(1, 1 + grid**2, WIDTH)}
    state["mask_token"] = draw(1, WIDTH)
    if registers:
        state["register_tokens"] = draw(1, registers, WIDTH)
    state["patch_embed.proj.weight"] = 0.1 * draw(WIDTH, 3, PATCH, PATCH)
    state["patch_embed.proj.bias"] = draw(WIDTH)
    for block in (f"blocks.{index}" for index in range(DEPTH)):
        state |= norm(f"{block}.norm1") | linear(f"{block}.attn.qkv", 3 * WIDTH, WIDTH)
        state |= linear(f"{block}.attn.proj", WIDTH, WIDTH) | {f"{block}.ls1.gamma": draw(WIDTH)}
        state |= norm(f"{block}.norm2") | {f"{block}.ls2.gamma": draw(WIDTH)}
        if swiglu:
            state |= linear(f"{block}.mlp.w12", 2 * 4 * WIDTH, WIDTH) | linear(
                f"{block}.mlp.w3", WIDTH, 4 * WIDTH
            )
        else:
            state |= linear(f"{block}.mlp.fc1", 4 * WIDTH, WIDTH) | linear(
                f"{block}.mlp.fc2", WIDTH, 4 * WIDTH
            )
    return state | norm("norm")


def forward_dinov2(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """Tokens after the final norm, computed as the original does, from its own state dict."""

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
        return x * state[f"{name}.weight"] + state[f"{name}.bias"]

    x = F.conv2d(images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=PATCH)
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], dim=1) + state["pos_embed"]
    if "register_tokens" in state:
        x = torch.cat([x[:, :1], state["register_tokens"].expand(len(x), -1, -1), x[:, 1:]], dim=1)
    for block in (f"blocks.{index}" for index in range(DEPTH)):
        qkv = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", x))
        q, k, v = qkv.reshape(*x.shape[:2], 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        attention = (q @ k.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5).softmax(-1)
        mixed = linear(f"{block}.attn.proj", (attention @ v).transpose(1, 2).flatten(2))
        x = x + state[f"{block}.ls1.gamma"] * mixed
        y = norm(f"{block}.norm2", x)
        if f"{block}.mlp.w12.weight" in state:
            gate, value = linear(f"{block}.mlp.w12", y).chunk(2, dim=-1)
            y = linear(f"{block}.mlp.w3", gate * gate.sigmoid() * value)
        else:
            y = linear(f"{block}.mlp.fc1", y)
            y = linear(f"{block}.mlp.fc2", y * 0.5 * (1 + torch.erf(y / 2**0.5)))
        x = x + state[f"{block}.ls2.gamma"] * y
    return norm("norm", x)


def timm_dinov2(registers: int = 0, swiglu: bool = False, size: int = 32) -> nn.Module:
    """The architecture that timm keeps for DINOv2, small."""
    options = {"img_size": size, "init_values": 1.0}
    if registers:
        options |= {"reg_tokens": registers, "no_embed_class": True}
    if swiglu:
        options |= {"mlp_ratio": 2 * 4, "mlp_layer": timm.layers.SwiGLUPacked, "act_layer": nn.SiLU}
    return tiny_vit(**options)


def all_tokens(model: nn.Module, images: Tensor = IMAGES) -> Tensor:
    tokens = ttr.adapt(model.eval()).tokens(images)
    return torch.cat([tokens.cls[:, None], tokens.registers, tokens.patches], dim=1)


def test_the_small_stand_ins_are_built_as_timm_builds_the_published_ones():
    giant = timm.create_model("vit_giant_patch14_reg4_dinov2", depth=1, embed_dim=48, num_heads=2)
    ours = timm_dinov2(registers=4, swiglu=True)
    assert set(giant.state_dict()) == {k for k in ours.state_dict() if not re.match("blocks.[12]", k)}
    assert type(giant.blocks[0].mlp) is type(ours.blocks[0].mlp)
    assert type(giant.blocks[0].mlp.act) is type(ours.blocks[0].mlp.act)
    assert giant.no_embed_class == ours.no_embed_class
    assert giant.norm.eps == ours.norm.eps


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("swiglu", [False, True])
def test_original_dinov2_computes_what_the_original_computes(registers, swiglu):
    state = original_dinov2(registers, swiglu)
    before = {key: value.clone() for key, value in state.items()}
    model = timm_dinov2(registers, swiglu)
    assert str(load_weights(model, state, "ours")) == "in memory (state dict)"
    expected = forward_dinov2(state, IMAGES)
    assert expected.std() > 0.5
    torch.testing.assert_close(all_tokens(model), expected, rtol=1e-4, atol=1e-4)
    assert state.keys() == before.keys()
    assert all(torch.equal(state[key], before[key]) for key in before)


@pytest.mark.parametrize("wrapped", ["teacher", "compiled", "chunked"])
def test_checkpoints_of_training_hold_the_same_backbone(wrapped, tmp_path):
    state = original_dinov2(registers=4)
    saved: dict = {f"_orig_mod.module.{key}": value for key, value in state.items()}
    if wrapped != "compiled":
        chunk = {key: re.sub(r"^blocks\.(\d+)", r"blocks.1.\1", key) for key in state}
        name = chunk.get if wrapped == "chunked" else str
        heads = {"dino_head.mlp.0.weight": torch.zeros(2), "ibot_head.last_layer.weight": torch.zeros(2)}
        saved = {
            "teacher": {f"backbone.{name(key)}": value for key, value in state.items()} | heads,
            "epoch": 1,
        }
    torch.save(saved, tmp_path / "checkpoint.pth")
    model = timm_dinov2(registers=4)
    beside = "" if wrapped == "compiled" else "; left out: dino_head, ibot_head"
    assert str(load_weights(model, tmp_path / "checkpoint.pth", "ours")) == f"file (checkpoint.pth{beside})"
    torch.testing.assert_close(all_tokens(model), forward_dinov2(state, IMAGES), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("registers", [0, 4])
def test_the_position_embedding_of_dinov2_is_resampled_without_its_cls(registers):
    """A constant embedding must stay constant; CLS keeps its own."""
    state = original_dinov2(registers, grid=7)
    state["pos_embed"][:, 1:] = state["pos_embed"][:, 1:2].clone()
    model = timm_dinov2(registers)
    load_weights(model, state, "ours")
    smaller = {**state, "pos_embed": state["pos_embed"][:, : 1 + GRID**2]}
    torch.testing.assert_close(all_tokens(model), forward_dinov2(smaller, IMAGES), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("timm:vit_small_patch14_dinov2", marks=pytest.mark.slow),  # a snippet of the README
        "timm:vit_small_patch14_reg4_dinov2",
    ],
)
def test_a_state_dict_in_memory_loads_by_name(name):
    """At its real size, from torch.hub's layout at 518 px to 224 px."""
    generator = torch.Generator().manual_seed(2)
    model = timm.create_model(name.removeprefix("timm:"))
    hub = {
        key: 0.1 * torch.randn(value.shape, generator=generator) for key, value in model.state_dict().items()
    }
    if "reg4" in name:
        hub["register_tokens"] = hub.pop("reg_token")
        hub["pos_embed"] = torch.randn(1, 1 + 37**2, 384, generator=generator)
    hub["mask_token"] = torch.zeros(1, 384)
    backbone = ttr.load(name, weights=hub, image_size=224)
    assert str(backbone.weights) == "in memory (state dict)"
    loaded = backbone.model.state_dict()
    assert torch.equal(loaded["blocks.11.mlp.fc2.weight"], hub["blocks.11.mlp.fc2.weight"])
    if "reg4" in name:
        assert torch.equal(loaded["cls_token"][0, 0], hub["cls_token"][0, 0] + hub["pos_embed"][0, 0])
    with pytest.raises(
        ModelError, match=r"the state dict does not hold weights of timm:vit_base.*of another shape"
    ):
        ttr.load(name.replace("small", "base"), weights=hub)


def test_a_model_from_torch_hub_is_refused_with_a_line_that_works(tmp_path, monkeypatch):
    torch_hub.stand_in(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model = torch.hub.load("facebookresearch/dinov2:main", "dinov2_vits14")
    with pytest.raises(ModelError, match="is the code of torch.hub; load it by name") as refusal:
        ttr.adapt(model)
    backbone = eval(str(refusal.value).partition("load it by name: ")[2], {"ttr": ttr, "model": model})
    assert str(backbone.weights) == "in memory (state dict)"
    assert backbone.image_size == (518, 518)
    for ours, theirs in zip(backbone.model.blocks, model.blocks, strict=True):
        assert torch.equal(ours.mlp.fc2.weight, theirs["mlp"]["fc2"].weight)
    assert torch.equal(backbone.model.pos_embed, model.pos_embed)


def test_a_model_of_torch_hub_is_told_its_name():
    class DinoVisionTransformer(nn.Module):
        embed_dim, num_register_tokens = 1024, 0

    model = DinoVisionTransformer()
    advice = r'load it by name: ttr.load\("timm:vit_{}", weights=model.state_dict\(\)\)'
    with pytest.raises(ModelError, match=advice.format("large_patch14_dinov2")):
        ttr.adapt(model)
    model.num_register_tokens, model.embed_dim = 4, 1536
    with pytest.raises(ModelError, match=advice.format("giant_patch14_reg4_dinov2")):
        ttr.adapt(model)
    model.storage_tokens, model.embed_dim = nn.Parameter(torch.zeros(1)), 384
    with pytest.raises(ModelError, match=advice.format("small_patch16_dinov3")):
        ttr.adapt(model)
    model.embed_dim = 77
    with pytest.raises(ModelError, match=advice.format("SIZE_patch16_dinov3")):
        ttr.adapt(model)


def original_dinov3(model: nn.Module, bias: bool, swiglu: bool) -> dict[str, Tensor]:
    """Rename a timm model's weights to those of facebookresearch/dinov3."""
    names = {"reg_token": "storage_tokens", "gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma"}
    if swiglu:
        names |= {"mlp.fc1_g": "mlp.w1", "mlp.fc1_x": "mlp.w2", "mlp.fc2": "mlp.w3"}
    state = {}
    for key, value in model.state_dict().items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        state[key] = value
    for block in (f"blocks.{index}.attn" for index in range(DEPTH)):
        query, value = (state.pop(f"{block}.{name}", torch.zeros(WIDTH)) for name in ("q_bias", "v_bias"))
        if bias:
            state[f"{block}.qkv.bias"] = torch.cat([query, torch.ones(WIDTH), value])
            state[f"{block}.qkv.bias_mask"] = torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(WIDTH)
    state |= {"mask_token": torch.ones(1, WIDTH), "rope_embed.periods": torch.ones(3)}
    return state


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("swiglu", [False, True])
def test_original_dinov3_computes_what_its_source_computes(bias, swiglu, tmp_path, capsys):
    options = {**DINOV3, "qkv_bias": bias, "swiglu_mlp": swiglu}
    source, model = scramble(tiny_eva(**options)), tiny_eva(**options)
    torch.save(original_dinov3(source, bias, swiglu), tmp_path / "dinov3.pth")
    load_weights(model, tmp_path / "dinov3.pth", "ours")
    assert torch.equal(all_tokens(model), all_tokens(source))
    assert capsys.readouterr().out == ""


def test_biases_of_dinov3_are_dropped_only_when_zero(capsys):
    source = scramble(tiny_eva(**DINOV3))
    state, model = original_dinov3(source, bias=True, swiglu=False), tiny_eva(**DINOV3)
    load_weights(model, state, "ours")
    assert torch.equal(all_tokens(model), all_tokens(source))
    state["blocks.1.attn.qkv.bias"][-1] = 0.1
    with pytest.raises(
        ModelError, match=r"holds biases \(blocks.1.attn.qkv.bias\) that this model lacks; .*_qkvb"
    ):
        load_weights(model, state, "ours")
    assert capsys.readouterr().out == ""


def in_layout(layout: str) -> tuple[dict[str, Tensor], nn.Module]:
    if layout == "dinov2":
        state, model = original_dinov2(4), timm_dinov2(4)
    else:
        model = tiny_eva(**DINOV3)
        state = original_dinov3(model, bias=False, swiglu=False)
    return state, model


@pytest.mark.parametrize(
    "extra",
    ["norm_pre.weight", "dist_token", "blocks.3.ls1.gamma", "blocks.1.adapter.weight", "rel_pos_bias"],
)
@pytest.mark.parametrize("layout", ["dinov2", "dinov3"])
def test_nothing_of_a_backbone_that_the_model_lacks_is_dropped(extra, layout):
    state, model = in_layout(layout)
    state[extra] = torch.ones(3)
    with pytest.raises(ModelError, match=r"keys .*unknown.*; name the architecture"):
        load_weights(model, state, "ours")


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        *[("head.weight", "head"), ("lm_head.weight", "lm_head"), ("projectors.a", "projectors")],
        *[("decoder_blocks.0.norm1.weight", "decoder"), ("pre_logits.x", "pre_logits")],
    ],
)
@pytest.mark.parametrize("layout", ["dinov2", "dinov3"])
def test_what_lies_behind_the_feature_is_left_out_and_said(extra, said, layout):
    state, model = in_layout(layout)
    state |= {extra: torch.ones(3), "decoder.mask_token": torch.ones(3)}
    assert str(load_weights(model, state, "ours")) == f"in memory (state dict; left out: {said})"


@pytest.mark.parametrize("key", ["norm.bias", "blocks.1.attn.qkv.weight", "register_tokens", "pos_embed"])
def test_nothing_that_the_model_needs_may_be_missing(key):
    state = original_dinov2(4)
    del state[key]
    with pytest.raises(ModelError, match=r"keys .*missing"):
        load_weights(timm_dinov2(4), state, "ours")


def test_checkpoints_of_open_clip_and_openai(tmp_path):
    source = scramble(tiny_clip())
    training = {"epoch": 3, "name": "run", "optimizer": {"state": {}, "param_groups": []}}
    training["state_dict"] = {f"module.{key}": value for key, value in source.state_dict().items()}
    torch.save(training, tmp_path / "epoch_3.pt")
    openai = dict(source.state_dict()) | {"logit_scale": source.logit_scale.detach().reshape(1)}
    openai |= {
        "input_resolution": torch.tensor(32),
        "context_length": torch.tensor(8),
        "vocab_size": torch.tensor(100),
    }
    torch.save(openai, tmp_path / "openai.pt")
    for file in ("epoch_3.pt", "openai.pt"):
        model = tiny_clip()
        load_weights(model, tmp_path / file, "ours")
        assert torch.equal(ttr.adapt(model).embed(IMAGES), ttr.adapt(source).embed(IMAGES))
        assert all(torch.equal(model.state_dict()[k], v) for k, v in source.state_dict().items())


def test_an_older_layout_of_open_clip_fills_a_model_with_a_separate_text_tower(monkeypatch, tmp_path):
    source = scramble(tiny_clip())
    config = {
        "layers": DEPTH,
        "width": WIDTH,
        "head_width": WIDTH // HEADS,
        "patch_size": PATCH,
        "image_size": 32,
    }
    text = {"context_length": 8, "vocab_size": 100, "width": 16, "heads": 2, "layers": 1}
    model = open_clip.CustomTextCLIP(16, config, text)
    load_weights(model, source.state_dict(), "ours")
    assert torch.equal(model.text.token_embedding.weight, source.token_embedding.weight)
    assert torch.equal(ttr.adapt(model).embed(IMAGES), ttr.adapt(source).embed(IMAGES))
    with pytest.raises(ModelError, match="1 unknown .such as extra"):
        load_weights(model, {**source.state_dict(), "extra": torch.ones(1)}, "ours")


def test_a_tower_of_timm_inside_open_clip_is_resampled(tmp_path):
    from open_clip.timm_model import TimmModel

    class Clip(nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.visual = TimmModel("vit_tiny_patch16_224", 16, pool="token", proj="linear")
            self.visual.set_input_size(size)

    source, model = scramble(Clip(64)), Clip(96)
    load_weights(model, source.state_dict(), "ours")
    assert torch.equal(model.visual.head.proj.weight, source.visual.head.proj.weight)
    assert model.visual.trunk.pos_embed.shape[1] == 37


def test_a_square_embedding_fills_a_model_that_is_not_square():
    source, model = tiny_vit(img_size=64), tiny_vit(img_size=(32, 64))
    nn.init.constant_(source.pos_embed, 0.25)
    load_weights(model, source.state_dict(), "ours")
    torch.testing.assert_close(model.pos_embed, torch.full((1, 33, WIDTH), 0.25))


def test_a_grid_that_is_known_from_the_architecture_is_resampled():
    source = scramble(tiny_vit(img_size=(32, 64)))
    model = tiny_vit(img_size=(64, 64))
    model.pretrained_cfg = {"input_size": (3, 32, 64)}
    load_weights(model, source.state_dict(), "ours")
    rows = F.interpolate(
        source.pos_embed[:, 1:].reshape(1, 4, 8, WIDTH).permute(0, 3, 1, 2),
        (8, 8),
        mode="bicubic",
        antialias=True,
    )
    torch.testing.assert_close(model.pos_embed[:, 1:], rows.permute(0, 2, 3, 1).flatten(1, 2))


def test_patches_of_another_size_are_another_model():
    state = tiny_vit(img_size=32, patch_size=8).state_dict()
    with pytest.raises(ModelError, match=r"1 of another shape \(such as patch_embed.proj.weight\)"):
        load_weights(tiny_vit(img_size=64, patch_size=16), state, "ours")


@pytest.mark.parametrize("family", ["timm", "open_clip"])
def test_a_grid_that_cannot_be_known_is_refused(family):
    if family == "timm":
        state, model = tiny_vit(img_size=(32, 64)).state_dict(), tiny_vit()
    else:
        state, model = tiny_clip(image_size=(32, 64)).state_dict(), tiny_clip()
    with pytest.raises(
        ModelError, match=r"(pos_embed|positional_embedding) .* its grid is unknown; use the image size that"
    ):
        load_weights(model, state, "ours")


@pytest.mark.parametrize(
    "content", [[1, 2], {}, {"state_dict": {}}, {"step": 3}, {"model": {"a": 1}}, {1: torch.ones(2)}]
)
def test_a_file_without_a_state_dict_is_named(content, tmp_path):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(ModelError, match=r"odd.pth holds no state dict of tensors"):
        load_weights(tiny_vit(), tmp_path / "odd.pth", "ours")


CHANGES = {
    "lora": (lambda key: [key.replace(".weight", ".base_layer.weight"), "a.lora_A.weight"], "merge_and"),
    "pruned": (lambda key: [f"{key}_orig", f"{key}_mask"], "prune.remove"),
    "parametrised": (lambda key: [key.replace("weight", "parametrizations.weight.original0")], "_parametriz"),
    "weight norm": (lambda key: [f"{key}_g", f"{key}_v"], "remove_weight_norm"),
}


@pytest.mark.parametrize("what", sorted(CHANGES))
def test_weights_that_something_changed_are_told_how_to_undo_it(what):
    names, remedy = CHANGES[what]
    model, key = tiny_vit(), "blocks.0.attn.qkv.weight"
    state = {name: value for name, value in model.state_dict().items() if name != key}
    with pytest.raises(ModelError, match=f"does not hold weights of ours: .*{remedy}"):
        load_weights(model, {**state, **{name: torch.ones(2) for name in names(key)}}, "ours")


def test_arrays_and_files_of_other_kinds_are_called_what_they_are(tmp_path):
    with pytest.raises(ModelError, match=r"the state dict holds .*make tensors of its arrays"):
        load_weights(tiny_vit(), {"a": np.ones(2)}, "ours")
    np.savez(tmp_path / "w.npz", a=np.ones(2))
    with pytest.raises(ModelError, match=r"w.npz is no checkpoint .* \(a .npz file\); needed safetensors"):
        load_weights(tiny_vit(), tmp_path / "w.npz", "ours")


def test_files_that_cannot_be_read_safely_are_refused(tmp_path):
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "scripted.pt")
    (tmp_path / "half.safetensors").write_bytes(b"\x10")
    save_file({"a": torch.zeros(100)}, tmp_path / "cut.safetensors")
    whole = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-1])
    (tmp_path / "text.pth").write_text(json.dumps({"a": 1}))
    for name in ("scripted.pt", "half.safetensors", "cut.safetensors", "text.pth"):
        with pytest.raises(ModelError, match=f"{name} is no checkpoint that can be read safely"):
            load_weights(tiny_vit(), tmp_path / name, "ours")


def with_value(state: dict[str, Tensor], key: str, change) -> dict[str, Tensor]:
    return {**state, key: change(state[key].clone())}


def one_nan(x: Tensor) -> Tensor:
    x.view(-1)[[1, 3]] = torch.nan
    return x


NO_WEIGHTS = {
    "holds 2 NaN of": one_nan,
    "holds 24 infinite of 24": lambda x: x * torch.inf,
    "is of type complex64": Tensor.cfloat,
    "is of type int64": Tensor.long,
    "is of type bool": Tensor.bool,
    "is of type float8_e5m2": lambda x: x.to(torch.float8_e5m2),
    "is not dense": Tensor.to_sparse,
    "lies on the meta device": lambda x: x.to("meta"),
}


@pytest.mark.parametrize("complaint", NO_WEIGHTS)
@pytest.mark.parametrize("source", ["memory", "pth", "safetensors"])
def test_weights_that_are_no_finite_floats_are_refused_by_name(complaint, source, tmp_path):
    model = tiny_vit()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = with_value(
        dict(scramble(tiny_vit()).state_dict()), "blocks.1.norm2.weight", NO_WEIGHTS[complaint]
    )
    given = tmp_path / f"odd.{source}"
    if source == "memory":
        given = state
    elif source == "pth":
        torch.save({"model": state}, given)
    elif "dense" not in complaint and "meta" not in complaint:
        save_file(state, given)
    else:
        return
    name = "the state dict" if source == "memory" else rf".*odd\.{source}"
    with pytest.raises(ModelError, match=rf"^blocks\.1\.norm2\.weight of {name} {complaint}"):
        load_weights(model, given, "ours")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("complaint", ["holds 2 NaN of", "is of type complex64", "lies on the meta device"])
def test_published_layouts_are_looked_at_under_either_name(complaint):
    state = with_value(original_dinov2(4), "blocks.1.ls1.gamma", NO_WEIGHTS[complaint])
    with pytest.raises(ModelError, match=rf"^blocks\.1\.ls1\.gamma of the state dict {complaint}"):
        load_weights(timm_dinov2(4), state, "ours")


def test_what_no_forward_pass_needs_may_be_anything():
    state = original_dinov2(4)
    state["mask_token"] = state["mask_token"] * torch.nan
    model, untouched = timm_dinov2(4), timm_dinov2(4)
    load_weights(model, state, "ours")
    load_weights(untouched, original_dinov2(4), "ours")
    assert torch.equal(all_tokens(model), all_tokens(untouched))


def test_a_mask_among_the_buffers_may_be_infinite():
    source, model = scramble(tiny_vit()), tiny_vit()
    for each in (source, model):
        each.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
    load_weights(model, source.state_dict(), "ours")
    assert torch.equal(all_tokens(model), all_tokens(source))


def test_a_safetensors_header_that_claims_400_gigabytes_is_refused(tmp_path):
    header = json.dumps({"weight": {"dtype": "F32", "shape": [1000, 10**8], "data_offsets": [0, 4 * 10**11]}})
    path = tmp_path / "huge.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(64))
    with pytest.raises(ModelError, match=r"huge\.safetensors is no checkpoint that can be read safely"):
        load_weights(tiny_vit(), path, "ours")


@pytest.mark.parametrize("give", ["directory", "file"])
def test_weights_in_several_parts_are_called_so(give, tmp_path):
    for number in (1, 2):
        (tmp_path / f"model-0000{number}-of-00002.safetensors").write_bytes(b"a part")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    given = tmp_path if give == "directory" else tmp_path / "model-00002-of-00002.safetensors"
    with pytest.raises(ModelError, match="weights in several parts .*; load the directory as transformers:"):
        ttr.load("timm:vit_tiny_patch16_224", weights=given)
