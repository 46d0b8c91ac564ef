"""Checkpoints as people own them: loaded, what was left out is said, and nothing of a backbone is lost."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import build_model_with_cfg, register_model
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import ttr
from tests.tools.tiny_models import DINOV3, scramble, tiny_eva, tiny_transformers, tiny_vit
from ttr.backbones.checkpoint_files import load_weights
from ttr.backbones.torch_files import read_torch_file
from ttr.errors import ModelError

ARCHITECTURE = "vit_of_these_tests"
NAME = f"timm:{ARCHITECTURE}"
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def vit_of_these_tests(pretrained: bool = False, **options: object) -> nn.Module:
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2}
    return build_model_with_cfg(VisionTransformer, ARCHITECTURE, pretrained, **{**sizes, **options})


@pytest.fixture(autouse=True, scope="module")
def _the_architecture():
    """An architecture of timm that takes no time to build."""
    register_model(vit_of_these_tests)


def own(**options: object) -> nn.Module:
    return scramble(timm.create_model(ARCHITECTURE, **options), seed=4)


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def decoder() -> dict[str, Tensor]:
    """What MAE's pretraining has beside the encoder."""
    names = (
        "decoder_embed.weight",
        "decoder_blocks.0.norm1.weight",
        "decoder_pos_embed",
        "decoder_pred.bias",
    )
    return {"mask_token": torch.zeros(1, 1, 8), **{name: torch.zeros(8) for name in names}}


HEAD = {"weight": torch.zeros(5, 24), "bias": torch.zeros(5)}
SEVERAL = {"state_dict": {"model.x": torch.zeros(1)}}
#: Options of the model that was saved, what is saved of it, and what is said behind the file's name.
KINDS = {
    "its own head": ({}, dict, ""),
    "another number of classes": ({"num_classes": 5}, dict, "; head of 5 classes"),
    "headless": ({"num_classes": 0}, dict, "; no head"),
    "fc_norm": (
        {"global_pool": "avg", "num_classes": 5},
        lambda s: {"model": s},
        "; head of 5 classes, mean of the patches behind fc_norm",
    ),
    "layer scale": ({"num_classes": 0, "init_values": 1e-5}, dict, "; no head"),
    "Namespace": ({}, lambda s: {"model": s, "args": argparse.Namespace(lr=1, out=Path("a"))}, ""),
    "NumPy": ({}, lambda s: {"model": s, "best": np.float64(0.5), "losses": np.ones(3)}, ""),
    "Lightning": ({}, lambda s: {"state_dict": under("model.", s)}, ""),
    "backbone and head": (
        {"num_classes": 0},
        lambda s: under("backbone.", s) | under("head.", HEAD),
        "; no head; left out: head",
    ),
    "a module's backbone": (
        {"num_classes": 0},
        lambda s: under("module.model.", under("backbone.", s) | under("classifier.", HEAD)),
        "; no head; left out: module.model.classifier",
    ),
    "encoder": (
        {},
        lambda s: under("encoder.", s) | {"decoder.weight": torch.zeros(1)},
        "; left out: decoder",
    ),
    "MAE": ({"num_classes": 0}, lambda s: {"model": s | decoder()}, "; no head; left out: decoder"),
    "compiled": (
        {},
        lambda s: {key.replace("blocks.0.", "blocks.0._orig_mod."): x for key, x in s.items()},
        "",
    ),
    "averaged": ({}, lambda s: under("module.", s) | {"n_averaged": torch.tensor(7)}, ""),
    "EMA": (
        {},
        lambda s: {"state_dict": {k: x + 1 for k, x in s.items()}, "state_dict_ema": s},
        "; its state_dict_ema",
    ),
    "JEPA": (
        {"num_classes": 0},
        lambda s: {
            "encoder": {k: x + 1 for k, x in s.items()},
            "target_encoder": under("module.", s),
            "epoch": 9,
        },
        "; its target_encoder; no head",
    ),
    "numbers beside weights": ({}, lambda s: {**s, "epoch": 3}, ""),
    "a linear head of another width": (
        {"num_classes": 0},
        lambda s: s | {"head.weight": torch.zeros(5, 96), "head.bias": torch.zeros(5)},
        "; no head; left out: head",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_gives_its_own_features_and_says_what_is_missing(kind, tmp_path):
    options, saved, said = KINDS[kind]
    source = own(**options)
    torch.save(saved(dict(source.state_dict())), tmp_path / "w.pth")
    loaded = ttr.load(NAME, weights=tmp_path / "w.pth")
    assert str(loaded.weights) == f"file (w.pth{said})"
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(IMAGES), source(IMAGES))
        torch.testing.assert_close(loaded.model.forward_features(IMAGES), source.forward_features(IMAGES))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda s: s.pop("blocks.1.mlp.fc1.bias"), r"1 missing \(such as blocks.1.mlp.fc1.bias\)"),
        (lambda s: s.pop("norm.weight"), r"1 missing \(such as norm.weight\)"),
        (lambda s: s.update({"blocks.1.ls1.gamma": torch.ones(24)}), "1 unknown .such as blocks.1.ls1.gamma"),
        (lambda s: s.update({"blocks.3.norm1.bias": torch.ones(24)}), "1 unknown .such as blocks.3.norm1"),
        (lambda s: s.update({"reg_token": torch.ones(1, 4, 24)}), "1 unknown .such as reg_token"),
        (lambda s: s.update({"norm_pre.bias": torch.ones(24)}), "1 unknown .such as norm_pre.bias"),
        (
            lambda s: s.update(under("teacher.", dict(s))),
            "holds several backbones .without a prefix, teacher.",
        ),
        (lambda s: s.update(under("_orig_mod.", dict(s))), "holds weights twice, compiled and bare"),
    ],
)
def test_a_backbone_is_never_loaded_in_part(change, complaint, tmp_path):
    state = dict(own().state_dict())
    change(state)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=complaint):
        ttr.load(NAME, weights=tmp_path / "w.pth")


HF = {"layer_norm_eps": 1e-6}
PUBLISHED = {
    "dinov2": ("Dinov2Model", {"layerscale_value": 0.5}, {"init_values": 1.0}),
    "dinov2-swiglu": (
        "Dinov2Model",
        {"use_swiglu_ffn": True},
        {
            "init_values": 1.0,
            "mlp_ratio": 64 * 2 / 24,
            "mlp_layer": timm.layers.SwiGLUPacked,
            "act_layer": nn.SiLU,
        },
    ),
    "dinov2-reg4": (
        "Dinov2WithRegistersModel",
        {"num_register_tokens": 4},
        {"init_values": 1.0, "reg_tokens": 4, "no_embed_class": True},
    ),
    "dinov2-classifier": ("Dinov2ForImageClassification", {}, {"init_values": 1.0}),
    "vit": ("ViTModel", {}, {}),
    "vit-classifier": ("ViTForImageClassification", {}, {}),
    "mae": ("ViTMAEForPreTraining", {"decoder_num_hidden_layers": 1, "mask_ratio": 0.0}, {}),
}


@pytest.mark.parametrize("kind", PUBLISHED)
@pytest.mark.parametrize("published", [True, False])
def test_weights_of_transformers_fill_the_architecture_of_timm(kind, published, tmp_path):
    """Under the names on the hub, and under those in memory; tokens are those that transformers computes."""
    if kind == "mae" and not published:
        return
    name, options, ours = PUBLISHED[kind]
    source = scramble(tiny_transformers(name, **HF, **options), seed=2)
    given = source.state_dict()
    if published:
        source.save_pretrained(tmp_path)
        given = tmp_path
    model = tiny_vit(**ours).eval()
    said = str(load_weights(model, given, "ours"))
    beside = {
        "dinov2-classifier": "classifier",
        "vit-classifier": "classifier",
        "vit": "pooler",
        "mae": "decoder",
    }
    assert said.partition("left out: ")[2].rstrip(")") == beside.get(kind, "")
    tower = getattr(source, "dinov2", None) or getattr(source, "vit", None) or source
    with torch.no_grad():
        noise = {"noise": torch.arange(16.0).expand(2, 16)} if kind == "mae" else {}
        expected = tower(IMAGES, **noise).last_hidden_state
        torch.testing.assert_close(model.forward_features(IMAGES), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"use_gated_mlp": True, "hidden_act": "silu"}])
def test_dinov3_of_transformers_fills_the_architecture_of_timm(options):
    source = scramble(tiny_transformers("DINOv3ViTModel", num_register_tokens=4, **HF, **options), seed=2)
    ours = {"qkv_bias": True, "rope_temperature": 100, "use_fc_norm": False}
    ours |= {"swiglu_mlp": True, "swiglu_align_to": 8} if options else {}
    model = tiny_eva(**{**DINOV3, **ours}).eval()
    load_weights(model, source.state_dict(), "ours")
    with torch.no_grad():
        expected = source(IMAGES).last_hidden_state
        torch.testing.assert_close(model.forward_features(IMAGES), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("part", ["query.weight", "key.bias", "value.weight"])
def test_a_part_that_a_file_of_transformers_lacks_is_not_made_up(part, tmp_path):
    tiny_transformers("Dinov2Model").save_pretrained(tmp_path)
    state = dict(load_file(tmp_path / "model.safetensors"))
    del state[f"encoder.layer.1.attention.attention.{part}"]
    with pytest.raises(ModelError, match=r"1 missing \(such as blocks.1.attn.qkv"):
        load_weights(tiny_vit(init_values=1.0), state, "ours")


def test_positions_of_transformers_are_resampled_to_another_image_size(tmp_path):
    source = tiny_transformers("Dinov2Model", layerscale_value=0.5)
    nn.init.constant_(source.embeddings.position_embeddings, 0.25)
    source.save_pretrained(tmp_path)
    model = tiny_vit(img_size=64, init_values=1.0)
    load_weights(model, tmp_path / "model.safetensors", "ours")
    torch.testing.assert_close(model.pos_embed, torch.full((1, 65, 24), 0.25))


def test_a_directory_is_read_by_the_one_file_of_weights_in_it(tmp_path):
    source = own()
    state = {key: value.clone() for key, value in source.state_dict().items()}
    torch.save({"model": state}, tmp_path / "checkpoint-best.ckpt")
    (tmp_path / "notes.txt").write_text("mine")
    assert str(ttr.load(NAME, weights=tmp_path).weights) == "file (checkpoint-best.ckpt)"
    save_file(state, tmp_path / "model.safetensors")
    assert str(ttr.load(NAME, weights=str(tmp_path)).weights) == "file (model.safetensors)"
    (tmp_path / "model.safetensors").rename(tmp_path / "last.safetensors")
    with pytest.raises(ModelError, match=r"found checkpoint-best.ckpt, last.safetensors; give the file"):
        ttr.load(NAME, weights=tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(ModelError, match="should hold one file of weights, found none"):
        ttr.load(NAME, weights=tmp_path / "none")


def test_a_directory_of_timm_describes_itself(tmp_path):
    """As timm.models.save_for_hf writes it; no result carries its path."""
    source = own(num_classes=5)
    save_file(
        {key: value.contiguous() for key, value in source.state_dict().items()},
        tmp_path / "model.safetensors",
    )
    with pytest.raises(
        ModelError, match=rf"no directory with a config.json .*: timm:ARCHITECTURE with weights={tmp_path}"
    ):
        ttr.load(f"timm:local-dir:{tmp_path}")
    for content in ("[1]", "{", '{"architectures": ["Dinov2Model"]}'):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(
            ModelError, match=rf"names an architecture of timm; .* or transformers:{tmp_path}"
        ):
            ttr.load(f"timm:local-dir:{tmp_path}")
    config = {"architecture": ARCHITECTURE, "num_classes": 5, "pretrained_cfg": {"num_classes": 5}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = ttr.load(f"timm:local-dir:{tmp_path}")
    assert (loaded.name, str(loaded.weights)) == (
        f"timm:local-dir:{tmp_path.name}",
        "file (model.safetensors)",
    )
    with torch.no_grad():
        assert torch.equal(loaded.model(IMAGES), source(IMAGES))
    with pytest.raises(ModelError, match="a directory with weights of its own"):
        ttr.load(f"timm:local-dir:{tmp_path}", weights=tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "is a git-lfs pointer.*git lfs pull",
        ),
        ("<!DOCTYPE html><html>Sign in</html>", "is a web page; download the file itself"),
        ("", "is empty; take an undamaged copy"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".onnx"])
def test_what_stands_for_weights_is_named(content, complaint, suffix, tmp_path):
    path = tmp_path / f"w{suffix}"
    path.write_text(content)
    with pytest.raises(ModelError, match=complaint):
        ttr.load(NAME, weights=path)


def test_a_pipe_is_named_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="w.safetensors is no regular file"):
        ttr.load(NAME, weights=tmp_path / "w.safetensors")


def test_a_pointer_in_a_directory_of_transformers_is_named(tmp_path):
    tiny_transformers("Dinov2Model").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    )
    with pytest.raises(ModelError, match="model.safetensors is a git-lfs pointer"):
        ttr.load(f"transformers:{tmp_path}")


def test_what_else_a_checkpoint_holds_is_named_and_not_built(tmp_path):
    torch.save({"model": own().state_dict(), "when": datetime.timedelta(1)}, tmp_path / "w.pth")
    with pytest.raises(
        ModelError, match=r"no checkpoint that can be read safely \(it holds datetime.timedelta\)"
    ):
        ttr.load(NAME, weights=tmp_path / "w.pth")
    torch.save(own(), tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"it holds timm.models.vision_transformer.VisionTransformer"):
        ttr.load(NAME, weights=tmp_path / "w.pth")


def test_settings_beside_weights_are_neither_built_nor_allowed_afterwards(tmp_path, monkeypatch):
    """Not even the classes that they are of are asked, and two files may be read at the same time."""
    torch.save({"a": torch.ones(1), "args": argparse.Namespace(lr=1), "x": np.float32(2)}, tmp_path / "w.pth")
    monkeypatch.setattr(argparse.Namespace, "__new__", None)
    allowed, failures = torch.serialization.get_safe_globals(), []

    def read() -> None:
        try:
            for _ in range(5):
                assert not hasattr(read_torch_file(tmp_path / "w.pth")["args"], "lr")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert set(torch.serialization.get_safe_globals()) == set(allowed)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("vit_base_patch16_224", "timm:vit_base_patch16_224"),
        ("vit_base_patch16_224.augreg_in21k", "timm:vit_base_patch16_224.augreg_in21k"),
        ("vit_small_patch16_dinov3", "timm:vit_small_patch16_dinov3"),
        ("deit3_small_patch16_224", "timm:deit3_small_patch16_224"),
        ("ViT-B-16", "open_clip:ViT-B-16"),
        ("ViT-B-16/laion2b_s34b_b88k", "open_clip:ViT-B-16/laion2b_s34b_b88k"),
        ("facebook/dinov2-small", "transformers:facebook/dinov2-small or timm:hf-hub:facebook/dinov2-small"),
        ("dinov2-vit-s14", "dinov2-vit-s-14"),
    ],
)
def test_a_name_without_its_library_is_understood(name, meant):
    with pytest.raises(ModelError) as refusal:
        ttr.load(name)
    assert f"(did you mean {meant}?)" in str(refusal.value)
