"""Where one image's answer comes from, by a method of choice, before and after. It has no widgets.

The methods are those of :mod:`ttr.attribution.attribute`, without the one that asks a pass for every patch.
Before and after are asked for the same answer; where it is the highest class, for the highest before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch

from ttr.apps.image.answers import Reader
from ttr.apps.image.case import Case
from ttr.apps.image.inspection import ways
from ttr.apps.image.prompt_map import can_read, read_texts
from ttr.attribution.attribute import OF_A_BLOCK, WITHOUT_TARGET, Method, attribute
from ttr.attribution.targets import own_classifier
from ttr.backbones.base import Backbone
from ttr.errors import OptionError
from ttr.registers.neurons import RegisterNeurons

if TYPE_CHECKING:
    from torch import Tensor, nn

SLOW = "perturbation"
METHODS: tuple[str, ...] = tuple(method for method in get_args(Method) if method != SLOW)
LOADED, OWN, TEXT = "the loaded head", "the model’s own head", "words"
HIGHEST = "the highest before"
#: Classes to choose from, the highest before first.
MOST_CLASSES = 100


@dataclass(frozen=True, eq=False)
class Answers:
    """What a method with a target can be asked for, of one image.

    Attributes:
        heads: {kind of answer: head}.
        classes: {kind of answer: {name: number of the class}}, the highest before first.
        words: whether the model reads texts.
    """

    heads: dict[str, Any] = field(repr=False)
    classes: dict[str, dict[str, int]] = field(repr=False)
    words: bool = False

    @property
    def kinds(self) -> list[str]:
        """The kinds of answers there are."""
        return [*self.heads, *([TEXT] if self.words else [])]

    @property
    def methods(self) -> list[str]:
        """The methods that can be asked: all, or those without a target."""
        return [method for method in METHODS if self.kinds or method in WITHOUT_TARGET]

    def target(self, kind: str, name: str, typed: str) -> tuple[dict[str, Any], str]:
        """Return what :func:`attribute` is given, and the answer in words.

        Raises:
            OptionError: there is no such answer.
        """
        if kind not in self.kinds:
            known = ", ".join(self.kinds) or "none"
            raise OptionError(f"{kind!r} is no answer that this model can be asked for; it has {known}")
        if kind == TEXT:
            texts = read_texts(typed)
            if len(texts) > 1:
                raise OptionError(
                    f"got {len(texts)} texts; needed one, without commas: a map is of one answer"
                )
            return {"target": texts[0]}, f"“{texts[0]}”"
        classes = self.classes[kind]
        if name == HIGHEST:
            name = next(iter(classes))
        if name not in classes:
            raise OptionError(f"{name!r} is no class to choose here; choose one of the list")
        head = {} if kind == OWN else {"head": self.heads[kind]}
        return {"target": classes[name], **head}, f"class “{name}”"


@dataclass(frozen=True, eq=False)
class Attribution:
    """Maps of one image by one method.

    Attributes:
        method: its name.
        said: whose map it is, in words: of which block and head, or of which answer.
        maps: float32 [rows, columns] of the original where there is one, before, and after.
    """

    method: str
    said: str
    maps: tuple[np.ndarray, ...] = field(repr=False)


def answers_of(backbone: Backbone, case: Case, reader: Reader | None) -> Answers:
    """Return what can be asked of a case: classes of the loaded head that fits, of the model's own, words."""
    feature = torch.from_numpy(case.inspection.before.feature)[None]
    heads: dict[str, Any] = {}
    classes: dict[str, dict[str, int]] = {}
    if reader is not None:
        heads[LOADED] = reader.head
        classes[LOADED] = _highest(reader.head.logits(feature)[0], reader.classes)
    own = own_classifier(backbone)
    if own is not None:
        logits = _logits(own, feature)
        heads[OWN] = own
        classes[OWN] = _highest(logits, [f"class {index}" for index in range(len(logits))])
    return Answers(heads, classes, can_read(backbone))


def attributed(
    backbone: Backbone,
    neurons: RegisterNeurons,
    case: Case,
    method: str,
    answer: tuple[dict[str, Any], str] | None,
    *,
    block: int,
    attention_head: int | None,
    num_registers: int = 1,
    original: Backbone | None = None,
) -> Attribution:
    """Return a method's maps of a case: a pass a map, or a pass and its gradients.

    Args:
        backbone: the bare model.
        neurons: its register neurons.
        case: of it.
        method: of METHODS.
        answer: of :meth:`Answers.target`, of a method that has a target.
        block: whose attention, of methods of one block.
        attention_head: one of its heads, or None for their mean.
        num_registers: R >= 0.
        original: the model without the artifacts that were planted, or None.

    Raises:
        OptionError: no such method, block or head, or no answer where one is needed.
        TTRError: as :func:`attribute`.
    """
    case.inspection.check(block, attention_head, "CLS")
    if method not in METHODS:
        raise OptionError(f"method {method!r}; needed one of {', '.join(METHODS)}")
    asked: dict[str, Any] = {"method": method}
    said = "of all blocks and heads"
    if method in OF_A_BLOCK:
        asked |= {"block": block, "attention_head": attention_head}
        which = "mean of the heads" if attention_head is None else f"head {attention_head}"
        said = f"of CLS, block {block}, {which}"
    elif method not in WITHOUT_TARGET:
        if answer is None:
            raise OptionError(f"{method} explains an answer, and there is none; choose one")
        asked |= answer[0]
        said = f"for {answer[1]}"
    batch = backbone.preprocess(case.picture.image)[None]
    maps = []
    for model, context in ways(backbone, neurons, num_registers, original):
        with context:
            maps.append(attribute(model, batch, **asked)[0].float().cpu().numpy())
    before, after, *truth = maps
    return Attribution(method, said, (*truth, before, after))


@torch.no_grad()
def _logits(head: nn.Module, feature: Tensor) -> Tensor:
    """Return the logits [C] of a feature [1, D], where the head is and in its precision."""
    return head(feature.to(next(head.parameters())))[0].float().cpu()


def _highest(logits: Tensor, names: Sequence[str]) -> dict[str, int]:
    order = logits.detach().argsort(descending=True)[:MOST_CLASSES].tolist()
    found: dict[str, int] = {}
    for index in order:
        found.setdefault(str(names[index]), index)
    return found
