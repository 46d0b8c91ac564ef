"""A stand-in for torch.hub's copy of facebookresearch/dinov2: its names and shapes, random weights."""

from __future__ import annotations

from pathlib import Path

HUBCONF = '''
import torch
from torch import nn

dependencies = ["torch"]


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))


def named(**modules):
    return nn.ModuleDict(modules)


class DinoVisionTransformer(nn.Module):
    """Only the names: nothing here runs it."""

    def __init__(self, width=384, depth=12, patch=14, side=37):
        super().__init__()
        self.embed_dim, self.num_register_tokens = width, 0
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + side**2, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.patch_embed = named(proj=nn.Conv2d(3, width, patch, patch))
        self.blocks = nn.ModuleList(
            named(
                norm1=nn.LayerNorm(width),
                attn=named(qkv=nn.Linear(width, 3 * width), proj=nn.Linear(width, width)),
                ls1=Scale(width),
                norm2=nn.LayerNorm(width),
                mlp=named(fc1=nn.Linear(width, 4 * width), fc2=nn.Linear(4 * width, width)),
                ls2=Scale(width),
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)


def dinov2_vits14():
    torch.manual_seed(0)
    return DinoVisionTransformer()
'''


def stand_in(torch_home: Path) -> None:
    """Write it where ``torch.hub.load("facebookresearch/dinov2:main", ...)`` looks before it downloads."""
    folder = torch_home / "hub" / "facebookresearch_dinov2_main"
    folder.mkdir(parents=True)
    (folder / "hubconf.py").write_text(HUBCONF)
