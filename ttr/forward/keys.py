"""Keys of the patches in one attention: what other patches are compared with there.

They are the keys that the attention multiplies with its queries, behind its own norms and its rotary
embedding, the heads side by side. CLS, registers of either kind and an attention bias have none here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.errors import ModelError
from ttr.forward.attention import project
from ttr.hooks import capture, evaluation_mode


@torch.no_grad()
def patch_keys(backbone: Backbone, images: Tensor, block: int = -1) -> Tensor:
    """Return the keys of the patches in a block's attention, [B, P, heads * d], in the model's type.

    Args:
        backbone: bare, or wrapped: a wrap takes part in the pass, and its registers are not returned.
        images: a normalised batch [B, 3, H, W].
        block: negative ones count from the last.

    Raises:
        ModelError: there is no such block, or images do not fit.
        ImageError: no tensor of finite floats.
    """
    images = backbone.prepare(images)
    module = backbone.sites.attention[backbone.layer(block, "block")]
    kept: list[Tensor] = []

    def see(index: int, x: Tensor, kwargs: Mapping[str, Any]) -> None:
        projected = project(backbone, module.module, x, kwargs)
        # Behind the tokens' keys stands that of an attention bias, if there is one.
        kept.append(projected.keys[:, :, : projected.length])

    with evaluation_mode(backbone.model), capture([module], see):
        backbone.features(images)
    if len(kept) != 1:
        raise ModelError(f"the attention of block {block} ran {len(kept)} times in one pass; needed once")
    keys = kept[0].transpose(1, 2).flatten(2)
    return backbone.layout_of(images, keys.shape[1]).select(keys, "patches")
