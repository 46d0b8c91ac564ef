"""Which feature of an image is meant: the model's own, or one that is asked for in its place.

Which the own one is, ``Backbone.pooling`` says in a word:

    cls             CLS after the final norm
    avg max avgmax  the mean of the patches, their maximum, the mean of both
    map prr         an attention over the tokens
    patches         the mean of the patches after the final norm, of a model that pools nothing
    distilled       the mean of CLS and the distillation token
    tower           what the image tower of a CLIP model returns, its projected embedding
    classifier      what the classifier of a model of transformers is given
    own forward     whatever a forward of the owner's gives its head
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor

from ttr.errors import ModelError, OptionError
from ttr.tokens import Tokens

Pooling = Literal["own", "cls", "patches"]


@dataclass(frozen=True)
class Pooled:
    """The feature of a backbone that was asked for another pooling than its own.

    Attributes:
        backbone: whose, a :class:`ttr.backbones.base.Backbone`.
        pooling: CLS, or the mean of the patches, after the final norm.
    """

    backbone: Any
    pooling: Literal["cls", "patches"]

    def __call__(self, images: Tensor) -> Tensor:
        """Return [B, D] of images [B, 3, H, W]."""
        tokens: Tokens = self.backbone.one_pass(images)[1]
        return tokens.pooled(self.pooling)


def asked_pooling(backbone: Any, pooling: Literal["cls", "patches"]) -> Pooled:
    """Return CLS or the mean of the patches as the feature of a backbone.

    Raises:
        OptionError: no such pooling.
        ModelError: CLS of a model without CLS.
    """
    if pooling not in get_args(Pooling):
        raise OptionError(f"pooling={pooling!r}; needed one of {', '.join(map(repr, get_args(Pooling)))}")
    if pooling == "cls" and not backbone.layout.cls:
        raise ModelError(
            f"{backbone.name} has no CLS token to take as its feature; choose pooling='own' or 'patches'"
        )
    return Pooled(backbone, pooling)


def pools_by_attention(backbone: Any) -> bool:
    """Return whether the feature is an attention over the tokens, which gives each a weight of its own."""
    by_attention = getattr(backbone.features, "pools_by_attention", None)
    own = not isinstance(backbone.features, Pooled) and backbone.pooling in ("map", "prr")
    return own if by_attention is None else bool(by_attention)
