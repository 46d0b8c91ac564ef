"""What an attribution is of: one number an image, made of its feature.

A class of a head stands for its logit, w . f + b where the head is linear; a text for the cosine to its
embedding in CLIP's space. Without a class it is the head's highest, image by image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from ttr.backbones.base import Backbone
from ttr.backbones.transformers_vit import classifiers
from ttr.errors import ModelError, OptionError
from ttr.evaluate.heads import LinearHead
from ttr.evaluate.zero_shot import Tokenizer, class_embeddings, has_text_tower
from ttr.wording import counted

Target = int | str | Sequence[int] | Tensor | None
Head = LinearHead | nn.Module


@dataclass(frozen=True, eq=False)
class OfText:
    """The cosine to a text.

    Attributes:
        text: its unit vector, float32 [E].
    """

    text: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Return [B] of features [B, E]."""
        wide = torch.promote_types(features.dtype, torch.float32)
        return F.normalize(features.to(wide), dim=-1) @ self.text.to(features.device, wide)

    def settled(self, features: Tensor) -> OfText:
        """Return itself: a text is the same for every feature."""
        return self

    def part(self, images: slice | int) -> OfText:
        """Return itself: a text is the same for every image."""
        return self

    def require_images(self, count: int) -> None:
        """Do nothing: a text is of any number of images."""


@dataclass(frozen=True, eq=False)
class OfClass:
    """The logit of a class.

    Attributes:
        head: whose class.
        classes: one of all images, int64 [], one an image, [B], or None for the highest.
    """

    head: Head
    classes: Tensor | None = None

    def __call__(self, features: Tensor) -> Tensor:
        """Return [B] of features [B, D]."""
        logits = self._logits(features)
        return logits.gather(1, self._chosen(logits)[:, None])[:, 0]

    def settled(self, features: Tensor) -> OfClass:
        """Return the score of the same class for other features than these, whichever is highest there."""
        return replace(self, classes=self._chosen(self._logits(features)))

    def part(self, images: slice | int) -> OfClass:
        """Return the score of some of the images, or of one, whatever is made of it."""
        if self.classes is None or not self.classes.ndim:
            return self
        last = images.stop if isinstance(images, slice) else images + 1
        if len(self.classes) < last:
            raise OptionError(
                f"got {counted(len(self.classes), 'target')} for {last} images or more; needed one an "
                "image, or one for all"
            )
        return replace(self, classes=self.classes[images])

    def require_images(self, count: int) -> None:
        """Raise OptionError if there are classes for more or fewer images than these."""
        if self.classes is not None and self.classes.ndim and len(self.classes) != count:
            raise OptionError(
                f"got {counted(len(self.classes), 'target')} for {counted(count, 'image')}; needed one an "
                "image, or one for all"
            )

    def _logits(self, features: Tensor) -> Tensor:
        if not isinstance(self.head, LinearHead | nn.Linear):
            return self.head(features)
        weight, bias = self.head.weight, self.head.bias
        if features.shape[-1] != weight.shape[1]:
            raise ModelError(
                f"got features of size {features.shape[-1]}, but this head takes {weight.shape[1]}; "
                "use the backbone that it was trained on"
            )
        wide = torch.promote_types(features.dtype, torch.float32)
        return F.linear(
            features.to(wide),
            weight.detach().to(features.device, wide),
            None if bias is None else bias.detach().to(features.device, wide),
        )

    def _chosen(self, logits: Tensor) -> Tensor:
        """Return the class of each image, int64 [B]."""
        if self.classes is None:
            return logits.detach().argmax(dim=1)
        images, known = logits.shape
        self.require_images(images)
        unknown = self.classes[(self.classes < 0) | (self.classes >= known)]
        if unknown.numel():
            raise OptionError(
                f"target {int(unknown.flatten()[0])}, but the head has {known} classes; give 0..{known - 1}"
            )
        return self.classes.to(logits.device).expand(images)


Score = OfText | OfClass


def score_of(backbone: Backbone, target: Target, head: Head | None, tokenizer: Tokenizer | None) -> Score:
    """Return what makes scores [B] of features [B, D].

    Args:
        backbone: whose features.
        target: a class, one an image, the name of a class of the head, or a text where no head is given.
        head: None: the model's own.
        tokenizer: of a text.

    Raises:
        OptionError: a target or a head that is none.
        ModelError: no head, or no text tower.
    """
    if isinstance(target, str) and head is None:
        return OfText(class_embeddings(backbone, [target], templates=("{}",), tokenizer=tokenizer)[0].clone())
    if isinstance(target, list | tuple) and any(isinstance(each, str) for each in target):
        raise OptionError(
            f"target={target!r}; needed one text for all images, a class, or a class's number each"
        )
    given = own_classifier(backbone) if head is None else head
    if given is None:
        text = ", or as target= a text" if has_text_tower(backbone) else ""
        raise ModelError(
            f"{backbone.name} has no one classifier of its own whose weights can be read, so nothing says "
            "what is to be attributed; give head= (a LinearHead or nn.Linear on its feature) and target=, a "
            f"class of it{text}"
        )
    if head is not None and not isinstance(head, LinearHead | nn.Linear):
        raise OptionError(f"head is a {type(head).__name__}; needed a ttr LinearHead or an nn.Linear")
    if isinstance(given, LinearHead | nn.Linear):
        _check_weights(given)
    return OfClass(given, _classes(target, given))


def _check_weights(head: LinearHead | nn.Linear) -> None:
    """Raise OptionError unless the head has values, and a class."""
    if isinstance(head.weight, UninitializedParameter) or head.weight.is_meta:
        raise OptionError("head has no values yet; load or run it first, then give it")
    if not len(head.weight):
        raise OptionError("head has no class; give one with a row of weights a class")


def own_classifier(backbone: Backbone) -> nn.Module | None:
    """Return the module that is given the model's own feature and makes its logits, or None.

    A distilled model has two, each for a feature of its own, and so none.
    """
    features: Any = backbone.features
    if backbone.pooling == "classifier":
        return classifiers(backbone.model)[0]
    if getattr(features, "others", ()):
        return None
    head = getattr(features, "head", None)
    return head if isinstance(head, nn.Module) and any(True for _ in head.parameters()) else None


def _classes(target: Any, head: Head) -> Tensor | None:
    """Return classes as numbers, int64 [] or [B]; None for None."""
    if target is None:
        return None
    if isinstance(target, str):
        names = getattr(head, "classes", None) or ()
        if target not in names:
            known = f"knows {', '.join(names)}" if names else "has no names of classes"
            raise OptionError(f"target={target!r}, but the head {known}; give one, or a class's number")
        return torch.tensor(names.index(target))
    try:
        classes = torch.as_tensor(target)
    except (TypeError, ValueError, RuntimeError) as error:
        raise OptionError(f"target={target!r}; needed a class, one class an image, or a text") from error
    fractions = classes.dtype.is_floating_point or classes.dtype.is_complex
    if fractions or classes.dtype == torch.bool or classes.ndim > 1:
        raise OptionError(f"target={target!r}; needed a class, one class an image, or a text")
    return classes.long()
