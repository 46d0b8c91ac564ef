"""The global feature of a model: what its own forward gives its head.

So the feature is pooled as the model pools it (CLS, the mean of the patches, attention, two tokens of a
distilled model), normalised as it normalises, and ``model.head(feature)`` is the model's answer, whoever
wrote the forward. Its author may have named the head otherwise; where none is reached at all, the model's
output is the feature.

Of a compiled model the forward is called, since what was compiled does not show what passes in it. Each call
looks at the pass of its own thread alone, so several threads may ask one model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import get_ident
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ttr.errors import ModelError
from ttr.hooks import Site, capture
from ttr.tokens import TokenLayout


def own_forward(model: nn.Module) -> str:
    """Say that nothing is known of what a forward pools."""
    return "own forward"


def cls_alone(model: nn.Module) -> str:
    """Say that CLS is what the head is given."""
    return "cls"


@dataclass(frozen=True)
class GivenTo:
    """The model's own forward, and of it what reaches its head.

    Attributes:
        model: the whole model.
        head: the module in it that is given the feature.
        others: the heads beside it, such as the one on a distillation token: the feature is the mean of what
            all of them are given.
        says: of the model as it is now, what its feature is, in a word.
        layout: of its tokens; where it pools nothing, CLS is the feature, or the mean of the patches.
    """

    model: Any
    head: nn.Module
    others: tuple[nn.Module, ...] = ()
    says: Callable[[Any], str] = own_forward
    layout: TokenLayout | None = None

    @property
    def pooling(self) -> str:
        """What the feature is, in a word; a model may be told to pool otherwise at any time."""
        return self.says(self.model)

    def __call__(self, images: Tensor) -> Tensor:
        """Return [B, D] of images [B, 3, H, W].

        Raises:
            ModelError: the model reaches no head and returns no vector.
        """
        heads = (self.head, *self.others)
        seen, output = passed(
            [*heads, *self._by_another_name()], "input", lambda: own_way(self.model)(images)
        )
        given = [seen[head] for head in heads if head in seen] or [*seen.values(), output][:1]
        vectors = [one_vector(self.model, x, self.layout) for x in given]
        return vectors[0] if len(vectors) == 1 else torch.stack(vectors).mean(dim=0)

    def _by_another_name(self) -> list[nn.Module]:
        """Return what may be a classifier and came into the model behind its head: layers that end linear."""
        children = [*self.model.children()]
        behind = children[children.index(self.head) + 1 :] if self.head in children else children
        return [x for x in behind if x not in self.others and isinstance([*x.modules()][-1], nn.Linear)]


@dataclass(frozen=True)
class ClsBehind:
    """CLS behind the final norm: of a model whose authors publish that, whatever its library pools.

    Attributes:
        model: the whole model.
        norm: the final norm in it.
        layout: of its tokens.
        pooling: what the feature is, in a word.
    """

    model: Any
    norm: nn.Module
    layout: TokenLayout
    pooling: str = "cls"

    def __call__(self, images: Tensor) -> Tensor:
        """Return [B, D] of images [B, 3, H, W]."""
        seen, _ = passed([self.norm], "output", lambda: own_way(self.model)(images))
        return one_vector(self.model, seen[self.norm], self.layout)


def passed(
    modules: Sequence[nn.Module], at: Literal["input", "output"], run: Callable[[], Any]
) -> tuple[dict[nn.Module, Tensor], Any]:
    """Return what passed at the modules that ``run`` reached, in that order, and what it returned."""
    seen: dict[nn.Module, Tensor] = {}
    own = get_ident()

    def see(index: int, x: Tensor, kwargs: Mapping[str, Any]) -> None:
        if get_ident() == own:
            if modules[index] in seen:
                raise ModelError(
                    f"a {type(modules[index]).__name__} is reached twice in one pass (several crops or "
                    "views?), so no vector is an image's feature; give a model that makes one of each image"
                )
            seen[modules[index]] = x

    with capture([Site(module, at) for module in modules], see):
        output = run()
    return seen, output


def own_way(model: nn.Module) -> Callable[..., Any]:
    """Return what runs a model, hooks of its owner included, and lets what passes in it be seen."""
    return model if getattr(model, "_compiled_call_impl", None) is None else model.forward


def one_vector(model: nn.Module, x: Any, layout: TokenLayout | None) -> Tensor:
    """Return a feature [B, D] as it is; of tokens [B, N, D] the only one, CLS, or the mean of the patches.

    Raises:
        ModelError: several tokens of an unknown layout, or no tensor of that kind.
    """
    if isinstance(x, Tensor) and x.ndim == 2:
        return x
    if isinstance(x, Tensor) and x.ndim == 3 and x.shape[1] == 1:
        return x.flatten(1)
    if isinstance(x, Tensor) and x.ndim == 3 and layout is not None:
        tokens = replace(layout, grid=(1, x.shape[1] - layout.prefix)).split(x)
        return tokens.pooled("cls" if layout.cls else "patches")
    given = f"a tensor of shape {list(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
    raise ModelError(
        f"{type(model).__name__} makes {given} where its feature was to be, one vector an image; needed a "
        "forward that gives its head [B, D]"
    )
