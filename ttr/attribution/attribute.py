"""The one door: ``ttr.attribute`` gives a map over the patches by any of the methods.

The formulas stand with the methods: :mod:`ttr.attribution.from_attention` (attention, value-attention,
rollout), :mod:`ttr.attribution.from_gradients` (gradient-rollout, chefer, legrad, gradcam) and
:mod:`ttr.attribution.from_pixels` (input-gradient, perturbation). CLS and the registers, trained or at test
time, take part in all of them and are shown by none: they are no part of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ttr.attribution import from_attention, from_gradients, from_pixels
from ttr.attribution.passes import Pass, watched
from ttr.attribution.rows import Query
from ttr.attribution.targets import Head, Score, Target, score_of
from ttr.backbones.base import Backbone
from ttr.backbones.families import as_backbone
from ttr.errors import ImageError, ModelError, OptionError
from ttr.evaluate.zero_shot import Tokenizer
from ttr.forward.batches import batches
from ttr.wording import counted

Method = Literal[
    "attention",
    "value-attention",
    "rollout",
    "gradient-rollout",
    "chefer",
    "legrad",
    "gradcam",
    "input-gradient",
    "perturbation",
]
#: By what they are given besides the pass: a block, a head and a query; a score; a score and a query.
OF_A_BLOCK: dict[str, Callable[[Pass, int, int | None, Query | None], Tensor]] = {
    "attention": from_attention.attention,
    "value-attention": from_attention.value_attention,
}
WITHOUT_TARGET = (*OF_A_BLOCK, "rollout")
OF_A_SCORE: dict[str, Callable[[Pass, Score], Tensor]] = {
    "legrad": from_gradients.legrad,
    "gradcam": from_gradients.gradcam,
    "input-gradient": from_pixels.input_gradient,
}
OF_A_SCORE_IN_A_ROW: dict[str, Callable[[Pass, Score, Query | None], Tensor]] = {
    "gradient-rollout": from_gradients.gradient_rollout,
    "chefer": from_gradients.chefer,
}


def attribute(
    backbone: Backbone | nn.Module,
    images: Tensor | Iterable[Any],
    *,
    method: Method = "attention",
    target: Target = None,
    head: Head | None = None,
    block: int = -1,
    attention_head: int | None = None,
    query: Query | None = None,
    tokenizer: Tokenizer | None = None,
    batch_size: int = 16,
) -> Tensor:
    """Return where in each image a model looks, or where its answer comes from, patch by patch.

    Args:
        backbone: a backbone, or a model as ``adapt`` takes it, bare or wrapped; an installed wrap takes part.
            Fused attention stays on, and nothing of the model is changed: no gradient, flag or hook stays.
        images: a tensor [B, 3, H, W], or what :func:`ttr.forward.batches.batches` takes, of one size.
        method: ``attention``, ``value-attention`` and ``rollout`` know no target; the others do.
        target: a class of the head, by number or name, or one an image, [B]; a text, for a whole CLIP model;
            None: the head's highest class of each image.
        head: a linear head on the model's feature; None: the model's own.
        block: whose attention, of ``attention`` and ``value-attention``.
        attention_head: one of its heads; None: their mean.
        query: of methods that read a row: ``"cls"``, ``"patches"`` (all alike), or one patch (row, column);
            None: CLS, or the patches where the model (where there is a target: its answer) has no CLS in it.
        tokenizer: texts -> token ids, of a text; None: the architecture's own.
        batch_size: images a pass.

    Returns:
        Float32 [B, rows, columns] over the patch grid, on the model's device, as the formula gives it and not
        scaled; ``perturbation`` alone can be negative.

    Raises:
        OptionError: an argument that has no such value, or that the method does not know.
        ModelError: the model has none of what the method reads, no gradient passes it, or a map is no number.
        ImageError: no images of finite floats.

    Example:
        >>> ttr.attribute(backbone, images, method="chefer", target=3, head=LinearHead.load(path))
    """
    backbone = as_backbone(backbone)
    layer = backbone.layer(block, "block")
    asked = {"target": target, "head": head, "tokenizer": tokenizer}
    _check(method, block=block, attention_head=attention_head, query=query, **asked)
    maps: list[Tensor] = []
    if method in WITHOUT_TARGET:
        for batch in batches(backbone, images, batch_size):
            with watched(backbone, batch, gradients=False) as seen:
                maps.append(_of_attention(seen, method, layer, attention_head, query))
    else:
        with torch.inference_mode(False):
            score = score_of(backbone, target, head, tokenizer)
        if isinstance(images, Tensor):
            score.require_images(len(images) if images.ndim == 4 else 1)
        done = 0
        for batch in batches(backbone, images, batch_size):
            own = score.part(slice(done, done + len(batch)))
            maps.append(_of_score(backbone, batch, method, own, query, batch_size))
            done += len(batch)
        score.require_images(done)
    return _joined(maps)


def _joined(maps: list[Tensor]) -> Tensor:
    if not maps:
        raise ImageError("no images were given; needed at least one")
    if len({tuple(each.shape[1:]) for each in maps}) > 1:
        raise ImageError("got images of several sizes, whose maps have different grids; give one size a call")
    found = torch.cat(maps)
    wrong = int((~found.isfinite()).flatten(1).any(dim=1).sum())
    if wrong:
        raise ModelError(
            f"the maps of {wrong} of {counted(len(found), 'image')} are no numbers, though the images are: "
            "the pass or the head overflowed; scale the images as the model's preprocessing does, check "
            "the head's weights, or give a wider dtype"
        )
    return found


def _of_attention(
    seen: Pass, method: str, block: int, attention_head: int | None, query: Query | None
) -> Tensor:
    if method == "rollout":
        return from_attention.rollout(seen, query)
    return OF_A_BLOCK[method](seen, block, attention_head, query)


def _of_score(
    backbone: Backbone, images: Tensor, method: str, score: Score, query: Query | None, batch_size: int
) -> Tensor:
    if method == "perturbation":
        return from_pixels.perturbation(backbone, images, score, batch_size)
    with watched(backbone, images, gradients=True) as seen:
        if method in OF_A_SCORE_IN_A_ROW:
            return OF_A_SCORE_IN_A_ROW[method](seen, score, query)
        return OF_A_SCORE[method](seen, score)


def _check(method: str, **asked: Any) -> None:
    """Raise OptionError unless there is such a method, and it knows what was asked of it."""
    if method not in get_args(Method):
        raise OptionError(f"method={method!r}; needed one of {', '.join(get_args(Method))}")
    if method in OF_A_BLOCK:
        known = {"block", "attention_head", "query"}
    elif method == "rollout":
        known = {"query"}
    else:
        known = {"target", "head", "tokenizer"} | ({"query"} if method in OF_A_SCORE_IN_A_ROW else set())
    for name, value in asked.items():
        if name not in known and value is not None and (name, value) != ("block", -1):
            raise OptionError(f"method={method!r} takes no {name}; it knows {', '.join(sorted(known))}")
