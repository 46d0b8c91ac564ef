"""Tiny random models of every family. Nothing is downloaded, nothing lies on disk.

open_clip and transformers are imported when a model of theirs is built: a process started by a test that
needs a plain ViT waits for neither.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import ttr  # noqa: F401  before timm: it lets torchvision import beside a CPU build of torch

# isort: split
import pytest
import timm.layers
import torch
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.naflexvit import NaFlexVit
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_relpos import VisionTransformerRelPos
from torch import nn

SIZE, PATCH, WIDTH, DEPTH, HEADS = 32, 8, 24, 3, 2


def tiny_vit(**options: object) -> nn.Module:
    sizes = {"img_size": SIZE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    return VisionTransformer(**{**sizes, "num_classes": 0, **options})


def tiny_eva(**options: object) -> nn.Module:
    sizes = {"img_size": SIZE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    return Eva(**{**sizes, "num_classes": 0, "use_rot_pos_emb": True, **options})


def tiny_beit(**options: object) -> nn.Module:
    sizes = {"img_size": SIZE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    return Beit(**{**sizes, "num_classes": 0, "global_pool": "token", "init_values": 0.5, **options})


def tiny_relpos(**options: object) -> nn.Module:
    sizes = {"img_size": SIZE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    return VisionTransformerRelPos(**{**sizes, "num_classes": 0, **options})


def tiny_naflex(**options: object) -> nn.Module:
    sizes = {"patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    sizes |= {"pos_embed_grid_size": (SIZE // PATCH, SIZE // PATCH), "class_token": True}
    return NaFlexVit(**{**sizes, "num_classes": 0, "global_pool": "token", **options})


def tiny_torchvision() -> nn.Module:
    from torchvision.models.vision_transformer import VisionTransformer

    return VisionTransformer(SIZE, PATCH, DEPTH, HEADS, WIDTH, 4 * WIDTH, num_classes=3)


def tiny_monai(**options: object) -> nn.Module:
    pytest.importorskip("einops")
    networks = pytest.importorskip("monai.networks.nets")
    sizes = {"img_size": SIZE, "patch_size": PATCH, "hidden_size": WIDTH, "mlp_dim": 4 * WIDTH}
    sizes |= {"num_layers": DEPTH, "num_heads": HEADS, "spatial_dims": 2}
    return networks.ViT(3, **{**sizes, **options})


def tiny_clip(**vision: object) -> nn.Module:
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    sizes = {"layers": DEPTH, "width": WIDTH, "head_width": WIDTH // HEADS, "patch_size": PATCH}
    text = CLIPTextCfg(context_length=8, vocab_size=100, width=16, heads=2, layers=1)
    return CLIP(16, CLIPVisionCfg(**{**sizes, "image_size": SIZE, **vision}), text)


def tiny_clip_with_timm_tower() -> nn.Module:
    from open_clip.model import CustomTextCLIP
    from open_clip.timm_model import TimmModel

    tower = TimmModel("vit_tiny_patch16_224", 16, image_size=224, pool="token", proj="linear")
    model = CustomTextCLIP.__new__(CustomTextCLIP)
    nn.Module.__init__(model)
    model.visual = tower
    model.encode_image = tower.forward
    return model


def tiny_transformers(kind: str, **options: object) -> nn.Module:
    """Build a tiny vision model of transformers, of the class that is named ``kind``."""
    import transformers

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
    "transformers-vit": partial(tiny_transformers, "ViTForImageClassification"),
    "transformers-ijepa": partial(tiny_transformers, "IJepaModel"),
    "transformers-dinov2-backbone": partial(tiny_transformers, "Dinov2Backbone"),
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
    "timm-beit": tiny_beit,
    "timm-naflex": partial(tiny_naflex, reg_tokens=2),
    "torchvision": tiny_torchvision,
    **TRANSFORMERS,
}


def scramble(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw every parameter anew, large enough that attention, norms and layer scales all matter.

    What the library drew at random (a convolution's bias) stays nowhere: the seed alone decides.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                parameter.copy_(noise * parameter[0].numel() ** -0.5 * 1.5)
            else:
                constant = not parameter.numel() or bool((parameter == parameter.flatten()[0]).all())
                parameter.copy_(0.2 * noise + (parameter if constant else 0))
    return model.eval()
