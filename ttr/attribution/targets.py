"""What an attribution is of: one number an image, made of its feature.

A class of a linear head stands for its logit, w . f + b; a text for its cosine in the space of CLIP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttr.backbones.base import Backbone
from ttr.errors import ModelError, OptionError
from ttr.evaluate.heads import LinearHead
from ttr.evaluate.zero_shot import Tokenizer, class_embeddings

Target = int | str | Sequence[int] | Tensor | None


@dataclass(frozen=True, eq=False)
class OfText:
    """The cosine to a text.

    Attributes:
        text: its unit vector, float32 [E].
    """

    text: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Return [B] of features [B, E]."""
        return F.normalize(features.to(self.text.dtype), dim=-1) @ self.text

    def settled(self, features: Tensor) -> OfText:
        """Return itself: a text is the same for every feature."""
        return self


@dataclass(frozen=True, eq=False)
class OfClass:
    """The logit of a class.

    Attributes:
        head: whose class.
        target: a class, one an image, or None for the highest.
    """

    head: LinearHead | nn.Linear
    target: Any

    def __call__(self, features: Tensor) -> Tensor:
        """Return [B] of features [B, D]."""
        logits = self._logits(features)
        return logits.gather(1, _classes(self.target, logits)[:, None])[:, 0]

    def settled(self, features: Tensor) -> OfClass:
        """Return the score of the same class for other features than these, whichever is highest there."""
        return replace(self, target=_classes(self.target, self._logits(features.detach())))

    def _logits(self, features: Tensor) -> Tensor:
        weight, bias = self.head.weight.detach(), self.head.bias
        if features.shape[-1] != weight.shape[1]:
            raise ModelError(
                f"got features of size {features.shape[-1]}, but this head takes {weight.shape[1]}; "
                "use the backbone that it was trained on"
            )
        wide = torch.promote_types(features.dtype, torch.float32)
        logits = features.to(wide) @ weight.to(features.device, wide).T
        return logits if bias is None else logits + bias.detach().to(logits)


Score = OfText | OfClass


def score_of(
    backbone: Backbone, target: Target, head: LinearHead | nn.Linear | None, tokenizer: Tokenizer | None
) -> Score:
    """Return what makes scores [B] of features [B, D].

    Raises:
        OptionError: a target that is none.
        ModelError: no head, or no text tower.
    """
    if isinstance(target, str):
        if head is not None:
            raise OptionError("target is a text and head is given; give one of them")
        row = class_embeddings(backbone, [target], templates=("{}",), tokenizer=tokenizer)[0]
        return OfText(row.clone())
    given = own_classifier(backbone) if head is None else head
    if given is None:
        text = ", or a text where the model is a whole CLIP" if target is None else ""
        raise ModelError(
            f"{backbone.name} has no linear classifier of its own, so nothing says what is to be attributed; "
            f"give head= and target=, a class of it{text}"
        )
    return OfClass(given, target)


def own_classifier(backbone: Backbone) -> nn.Linear | None:
    """Return the linear layer that is given the model's own feature, or None."""
    features: Any = backbone.features
    if getattr(features, "others", ()):  # a distilled model's answer is the mean of two heads
        return None
    found = getattr(features, "head", None)
    model: Any = backbone.model
    if found is None and backbone.pooling == "classifier":
        found = getattr(model, "classifier", None)
    return found if isinstance(found, nn.Linear) else None


def _classes(target: Any, logits: Tensor) -> Tensor:
    """Return the class of each image, int64 [B]."""
    if target is None:
        return logits.detach().argmax(dim=1)
    classes = torch.as_tensor(target, device=logits.device)
    count, known = logits.shape
    if classes.dtype.is_floating_point or classes.dtype == torch.bool or classes.ndim > 1:
        raise OptionError(f"target={target!r}; needed a class, one class an image, or a text")
    if classes.ndim and len(classes) != count:
        raise OptionError(f"got {len(classes)} targets for {count} images; needed one an image, or one")
    if ((classes < 0) | (classes >= known)).any():
        raise OptionError(f"target={target!r}, but the head has {known} classes; give 0..{known - 1}")
    return classes.long().expand(count)
