"""Whose classes the methods with a target are asked for: a linear head's, the model's own, or texts.

Each is asked for the label of every image, and says how probable that label is for the model's features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttr.attribution.attribute import attribute
from ttr.attribution.targets import own_classifier
from ttr.backbones.base import Backbone
from ttr.errors import ModelError, OptionError
from ttr.evaluate.heads import LinearHead
from ttr.evaluate.zero_shot import class_embeddings, has_text_tower

#: What may be asked besides a head that is trained on the set.
OWN, TEXT = "own", "text"


class Asked(Protocol):
    """What is asked for the classes of a set."""

    def maps(self, backbone: Backbone, images: Tensor, labels: Sequence[int], method: Any) -> Tensor:
        """Return the map of each image for its label, float32 [B, rows, columns]."""

    def logits(self, features: Tensor) -> Tensor:
        """Return what the classes score, [B, C] of features [B, D] on the CPU."""


@dataclass(frozen=True, eq=False)
class OfHead:
    """The classes of a linear head."""

    head: LinearHead = field(repr=False)

    def maps(self, backbone: Backbone, images: Tensor, labels: Sequence[int], method: Any) -> Tensor:
        """Return the map of each image for its label, float32 [B, rows, columns]."""
        asked: dict[str, Any] = {"head": self.head, "target": list(labels)}
        return attribute(backbone, images, method=method, batch_size=len(images), **asked)

    def logits(self, features: Tensor) -> Tensor:
        """Return what the classes score, [B, C] of features [B, D] on the CPU."""
        return self.head.logits(features)


@dataclass(frozen=True, eq=False)
class OfModel:
    """The classes of the model's own classifier, in the order of the set's."""

    classifier: nn.Module = field(repr=False)

    @classmethod
    def of(cls, backbone: Backbone) -> OfModel:
        """Find the classifier.

        Raises:
            ModelError: there is none.
        """
        found = own_classifier(backbone)
        if found is None:
            raise ModelError(
                f"{backbone.name} has no classifier of its own; needed one for --head {OWN}: choose --head "
                "logistic, which is trained on the set, or the weights of a model that was fine-tuned on it"
            )
        return cls(found)

    def maps(self, backbone: Backbone, images: Tensor, labels: Sequence[int], method: Any) -> Tensor:
        """Return the map of each image for its label, float32 [B, rows, columns]."""
        return attribute(backbone, images, method=method, target=list(labels), batch_size=len(images))

    @torch.no_grad()
    def logits(self, features: Tensor) -> Tensor:
        """Return what the classes score, [B, C] of features [B, D] on the CPU."""
        weight = next(self.classifier.parameters())
        return self.classifier(features.to(weight.device, weight.dtype)).float().cpu()


@dataclass(frozen=True, eq=False)
class OfTexts:
    """A text a class, in CLIP's space.

    Attributes:
        texts: C of them.
        embeddings: their unit vectors, float32 [C, E].
        scale: by which cosines are multiplied before the softmax.
    """

    texts: tuple[str, ...]
    embeddings: Tensor = field(repr=False)
    scale: float

    @classmethod
    def of(cls, backbone: Backbone, classes: Sequence[str], prompt: str) -> OfTexts:
        """Write each class into the prompt.

        Raises:
            ModelError: no text tower.
            OptionError: a prompt without ``{}``, or one that makes two classes alike.
        """
        if not has_text_tower(backbone):
            raise ModelError(
                f"{backbone.name} has no text tower; needed a whole CLIP model for --head {TEXT}: choose "
                "--head logistic, which is trained on the set"
            )
        if "{}" not in prompt:
            raise OptionError(f"prompt {prompt!r}; needed {{}} where the name of the class goes")
        texts = tuple(prompt.replace("{}", name) for name in classes)
        model: Any = backbone.model
        embeddings = class_embeddings(backbone, texts, templates=("{}",)).cpu().clone()
        return cls(texts, embeddings, float(model.logit_scale.detach().exp()))

    def maps(self, backbone: Backbone, images: Tensor, labels: Sequence[int], method: Any) -> Tensor:
        """Return the map of each image for its label, float32 [B, rows, columns]."""
        found: Tensor | None = None
        for label in dict.fromkeys(labels):
            here = torch.tensor([each == label for each in labels])
            own = attribute(
                backbone, images[here], method=method, target=self.texts[label], batch_size=len(images)
            )
            if found is None:
                found = own.new_empty(len(images), *own.shape[1:])
            found[here.to(found.device)] = own
        assert found is not None
        return found

    def logits(self, features: Tensor) -> Tensor:
        """Return what the classes score, [B, C] of features [B, D] on the CPU."""
        return self.scale * F.normalize(features.float(), dim=-1) @ self.embeddings.T


def right(asked: Asked, features: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> float:
    """Return how often the highest class of features [N, D] is the label [N], 0..1.

    Raises:
        ModelError: another number of classes than the set has.
    """
    logits = asked.logits(torch.from_numpy(features))
    if logits.ndim != 2 or logits.shape[1] != len(classes):
        raise ModelError(
            f"the model's own classifier has {logits.shape[-1]} classes, and the set {len(classes)} "
            f"({', '.join(classes)}); needed a model that was fine-tuned on these, in this order: choose "
            "--head logistic, which is trained on the set"
        )
    return float((logits.argmax(dim=1).numpy() == labels).mean())
