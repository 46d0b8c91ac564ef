"""Tiny random models of every family, and tiny images. Nothing is downloaded, nothing lies on disk."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # The workers, and what they start, share the cores: threads would only wait for each other.
    for pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(pool, "1")

import ttr  # before timm: it lets torchvision import beside a CPU build of torch

# isort: split
import pytest
import timm.layers
import torch
import transformers
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP
from open_clip.timm_model import TimmModel
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from tests.tools.app_page import CHROMIUM, WITHOUT
from tests.tools.loopback_hub import LoopbackHub

# What the libraries brought stays; the collector need not walk through it again and again.
gc.freeze()
gc.set_threshold(20_000, 20, 20)

SIZE, PATCH, WIDTH, DEPTH, HEADS = 32, 8, 24, 3, 2


def tiny_vit(**options: object) -> nn.Module:
    sizes = {"img_size": SIZE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    return VisionTransformer(**{**sizes, "num_classes": 0, **options})


def tiny_eva(**options: object) -> nn.Module:
    sizes = {"img_size": SIZE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    return Eva(**{**sizes, "num_classes": 0, "use_rot_pos_emb": True, **options})


def tiny_clip(**vision: object) -> nn.Module:
    sizes = {"layers": DEPTH, "width": WIDTH, "head_width": WIDTH // HEADS, "patch_size": PATCH}
    text = CLIPTextCfg(context_length=8, vocab_size=100, width=16, heads=2, layers=1)
    return CLIP(16, CLIPVisionCfg(**{**sizes, "image_size": SIZE, **vision}), text)


def tiny_clip_with_timm_tower() -> nn.Module:
    tower = TimmModel("vit_tiny_patch16_224", 16, image_size=224, pool="token", proj="linear")
    model = CustomTextCLIP.__new__(CustomTextCLIP)
    nn.Module.__init__(model)
    model.visual = tower
    model.encode_image = tower.forward
    return model


def tiny_transformers(kind: str, **options: object) -> nn.Module:
    """Build a tiny vision model of transformers, of the class that is named ``kind``."""
    sizes = {"image_size": SIZE, "patch_size": PATCH, "hidden_size": WIDTH, "num_hidden_layers": DEPTH}
    sizes |= {"num_attention_heads": HEADS, "intermediate_size": 4 * WIDTH, "projection_dim": 16}
    model = getattr(transformers, kind)
    return model(model.config_class(**{**sizes, **options}))


DINOV3 = {
    "num_reg_tokens": 4,
    "use_abs_pos_emb": False,
    "rope_type": "dinov3",
    "no_embed_class": True,
    "rope_rotate_half": True,
    "init_values": 0.3,
    "qkv_bias": False,
}
TRANSFORMERS: dict[str, Callable[[], nn.Module]] = {
    "transformers-dinov2": partial(tiny_transformers, "Dinov2Model", layerscale_value=0.5),
    "transformers-dinov2-swiglu": partial(tiny_transformers, "Dinov2Model", use_swiglu_ffn=True),
    "transformers-dinov2-reg4": partial(tiny_transformers, "Dinov2WithRegistersModel", num_register_tokens=4),
    "transformers-dinov2-classifier": partial(tiny_transformers, "Dinov2ForImageClassification"),
    "transformers-dinov3": partial(tiny_transformers, "DINOv3ViTModel", num_register_tokens=4),
    "transformers-dinov3-gated": partial(
        tiny_transformers, "DINOv3ViTModel", num_register_tokens=4, use_gated_mlp=True, hidden_act="silu"
    ),
    "transformers-clip": partial(tiny_transformers, "CLIPVisionModel"),
    "transformers-clip-projection": partial(tiny_transformers, "CLIPVisionModelWithProjection"),
    "transformers-siglip": partial(tiny_transformers, "SiglipVisionModel"),
}
FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "timm-vit": tiny_vit,
    "timm-clip": partial(tiny_vit, pre_norm=True),
    "timm-reg4": partial(tiny_vit, reg_tokens=4, no_embed_class=True, init_values=0.5, qk_norm=True),
    "timm-swiglu": partial(tiny_vit, mlp_layer=timm.layers.SwiGLUPacked, init_values=0.5),
    "timm-dynamic": partial(tiny_vit, dynamic_img_size=True),
    "eva-dinov3": partial(tiny_eva, **DINOV3),
    "eva-02": partial(tiny_eva, swiglu_mlp=True, qkv_fused=False, scale_mlp=True),
    "eva-bias": partial(tiny_eva, qkv_bias=True),
    "open-clip": tiny_clip,
    "open-clip-late-norm": partial(tiny_clip, final_ln_after_pool=True, pool_type="avg"),
    "open-clip-tower": lambda: tiny_clip().visual,
    **TRANSFORMERS,
}


def scramble(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw every parameter anew, large enough that attention, norms and layer scales all matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                parameter.copy_(noise * parameter[0].numel() ** -0.5 * 1.5)
            else:
                parameter.add_(0.2 * noise)
    return model.eval()


@pytest.fixture(params=sorted(FAMILIES))
def model(request: pytest.FixtureRequest) -> nn.Module:
    return scramble(FAMILIES[request.param]())


@pytest.fixture
def images() -> Tensor:
    return torch.randn(5, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _restore_global_generator() -> Iterator[None]:
    """Tests that draw from the global generator leave it as they found it."""
    before = torch.random.get_rng_state()
    yield
    torch.random.set_rng_state(before)


@pytest.fixture(scope="session")
def phantom():

    return ttr.load("phantom")


@pytest.fixture(scope="session")
def phantom_batch(phantom) -> Tensor:
    from ttr.datasets.phantom import phantom_images

    return torch.stack([phantom.preprocess(p.image) for p in phantom_images(8)])


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    """A hub on loopback with an empty cache of its own, to which this process's hub client is pointed."""
    from huggingface_hub import close_session, constants

    with LoopbackHub() as hub:
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "harnesses.json"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        close_session()
        yield hub
        close_session()


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """A headless Chromium; where there is none, its tests are skipped with the reason."""
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        pytest.skip(WITHOUT)
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def run(monkeypatch, capsys, tmp_path_factory):
    """Run the command line in this process; return status, standard output and standard error.

    What a command keeps for the next one, it keeps in a folder of the test's own.
    """
    from ttr.cli import main

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("user-cache")))

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ttr", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call
