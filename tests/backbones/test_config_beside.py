"""A configuration of transformers beside weights that go into an architecture of timm."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from safetensors.torch import save_file

import ttr
from ttr.errors import ModelError

NAME = "timm:test_vit"
FITS = {"model_type": "vit", "num_attention_heads": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-6}


@pytest.fixture(scope="module")
def state():
    return dict(timm.create_model("test_vit").state_dict())


def saved(folder, state, config):
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "config",
    [
        FITS,
        {"model_type": "vit"},
        {**FITS, "use_swiglu_ffn": True, "hidden_act": "silu"},
        {"architecture": "test_vit", "num_attention_heads": 7},
        "[]",
        "no json",
    ],
    ids=["fits", "silent", "gated", "of timm", "a list", "text"],
)
def test_a_configuration_that_fits_or_says_nothing_is_no_matter(config, state, tmp_path):
    assert ttr.load(NAME, weights=saved(tmp_path, state, config)).weights.origin == "file"


@pytest.mark.parametrize("give", ["directory", "file"])
@pytest.mark.parametrize(
    ("entry", "value", "says"),
    [
        ("num_attention_heads", 4, r"num_attention_heads 4 \(the architecture has 2\)"),
        ("hidden_act", "quick_gelu", r"hidden_act 'quick_gelu' \(the architecture has GELU\)"),
        ("hidden_act", "gelu_new", r"hidden_act 'gelu_new'"),
        ("hidden_act", "mine", r"hidden_act 'mine'"),
        ("hidden_act", ["gelu"], r"hidden_act \['gelu'\]"),
    ],
)
def test_what_differs_is_refused_by_name(give, entry, value, says, state, tmp_path):
    folder = saved(tmp_path, state, {**FITS, entry: value})
    with pytest.raises(ModelError, match=f"config.json says {says}.*, so .*; load them as transformers:"):
        ttr.load(NAME, weights=folder if give == "directory" else folder / "model.safetensors")


def test_the_norms_take_the_epsilon_of_the_configuration(state, tmp_path):
    model = timm.create_model("test_vit").eval()
    model.load_state_dict(state)
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    found = ttr.load(NAME, weights=saved(tmp_path, state, {**FITS, "layer_norm_eps": 0.5})).embed(images)
    with torch.no_grad():
        assert (found - ttr.adapt(model).embed(images)).abs().max() > 0.01
        for norm in model.modules():
            if isinstance(norm, torch.nn.LayerNorm):
                norm.eps = 0.5
        torch.testing.assert_close(found, ttr.adapt(model).embed(images))


def test_a_family_that_is_not_known_is_refused_by_what_it_is_whatever_the_weights_are(state):
    """Not by the weights that it lacks, nor by arguments that it does not take."""
    for weights in (state, {**state, "blocks.0.ls1.gamma": torch.ones(1)}):
        with pytest.raises(ModelError, match="model family timm.models.resnet.ResNet is not known"):
            ttr.load("timm:test_resnet", weights=weights)
