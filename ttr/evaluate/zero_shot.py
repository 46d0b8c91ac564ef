"""Zero-shot classification: which of some class names an image is closest to, in CLIP's shared space.

Radford et al. (2021, arXiv 2103.00020) write a class name c into templates t, "a photo of a {}.", average the
normalised text embeddings and normalise once more; an image x is scored by its cosine to each class:

    w_c = norm(mean_t norm(text(t(c)))),    p(c | x) = softmax_c(exp(logit_scale) norm(image(x)) . w_c)

A model with a ``logit_bias`` b was trained with a sigmoid (SigLIP, Zhai et al. 2023, arXiv 2303.15343): each
class is then a question of its own, p(c | x) = sigmoid(exp(logit_scale) cosine + b), and a row need not sum
to 1. Only the image tower can be wrapped, so the class embeddings are the same before and after.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.errors import ImageError, ModelError, OptionError
from ttr.forward.batches import batches, count
from ttr.hooks import evaluation_mode
from ttr.progress import progress_bar

Tokenizer = Callable[[list[str]], Tensor]
TEMPLATES = ("a photo of a {}.",)


@torch.no_grad()
def zero_shot(
    backbone: Backbone,
    images: Tensor | Iterable[Any],
    classes: Sequence[str],
    *,
    templates: Sequence[str] = TEMPLATES,
    tokenizer: Tokenizer | None = None,
    batch_size: int = 16,
    progress: bool = False,
) -> Tensor:
    """Return the probability of each class for each image, as the module's formulas say.

    Args:
        backbone: a whole open_clip model, text tower included. An installed wrap takes part.
        images: a tensor [N, 3, H, W], or an iterable of PIL images or tensors [3, H, W].
        classes: names of the classes, such as ``["normal chest radiograph", "pneumonia"]``.
        templates: prompts with ``{}`` where the name goes; several make an ensemble.
        tokenizer: texts -> token ids [n, context]; None: the architecture's own.
        batch_size: images a pass.
        progress: show a progress bar.

    Returns:
        Float32 [N, C] on the CPU, 0..1; rows sum to 1 unless the model was trained with a sigmoid.

    Raises:
        ModelError: no text tower, or no tokenizer that fits it.
        OptionError: classes or templates that cannot be used.
        ImageError: no images.

    Example:
        >>> ttr.zero_shot(ttr.load("open_clip:ViT-B-16"), images, ["normal chest radiograph", "pneumonia"])
    """
    names = class_embeddings(backbone, classes, templates=templates, tokenizer=tokenizer)
    model: Any = backbone.model
    if len(classes) < 2 and getattr(model, "logit_bias", None) is None:
        raise OptionError(f"classes={list(classes)!r}; needed two or more names to choose between")
    scale, bias = model.logit_scale.exp().float(), getattr(model, "logit_bias", None)
    rows: list[Tensor] = []
    with progress_bar("classifying", count(images), show=progress) as advance:
        for batch in batches(backbone, images, batch_size):
            logits = scale * F.normalize(backbone.embed(batch).float(), dim=-1) @ names.T
            rows.append((logits.softmax(-1) if bias is None else (logits + bias.float()).sigmoid()).cpu())
            advance(len(batch))
    if not rows:
        raise ImageError("no images were given; needed at least one to classify")
    return torch.cat(rows)


def has_text_tower(backbone: Backbone) -> bool:
    """Return whether texts can be embedded beside images: whether it is a whole CLIP model."""
    return hasattr(backbone.model, "encode_text") and hasattr(backbone.model, "logit_scale")


@torch.no_grad()
def class_embeddings(
    backbone: Backbone,
    classes: Sequence[str],
    *,
    templates: Sequence[str] = TEMPLATES,
    tokenizer: Tokenizer | None = None,
) -> Tensor:
    """Return the classes' unit vectors w_c in the shared space, float32 [C, D]; a single one will do.

    Raises:
        ModelError: no text tower, or no tokenizer that fits it.
        OptionError: classes or templates that cannot be used.
    """
    model: Any = backbone.model
    if not has_text_tower(backbone):
        raise ModelError(
            f"{backbone.name} is {type(model).__name__}, which has no text tower; needed a whole CLIP "
            "model: open_clip:ARCHITECTURE/TAG by name, or ttr.adapt(clip) rather than ttr.adapt(clip.visual)"
        )
    _check_texts(classes, templates)
    tokenize = tokenizer or _own_tokenizer(backbone)
    embedded = []
    with evaluation_mode(model):
        for name in classes:
            tokens = tokenize([template.replace("{}", name) for template in templates])
            _check_tokens(backbone, tokens)
            texts = F.normalize(model.encode_text(tokens.to(backbone.device)).float(), dim=-1)
            embedded.append(F.normalize(texts.mean(dim=0), dim=-1))
    return torch.stack(embedded)


def _check_texts(classes: Sequence[str], templates: Sequence[str]) -> None:
    if isinstance(classes, str) or isinstance(templates, str):
        raise OptionError("classes and templates are lists of strings; put a single one into brackets")
    if not templates or not all("{}" in template for template in templates):
        raise OptionError(
            f"templates={list(templates)!r}; needed one or more, each with {{}} for the class name"
        )
    if not classes or not all(name.strip() for name in classes):
        raise OptionError(f"classes={list(classes)!r}; needed one name or more, none blank")
    if len(set(classes)) != len(classes):
        raise OptionError(f"classes={list(classes)!r}; needed each name once")


def _own_tokenizer(backbone: Backbone) -> Tokenizer:
    """Return the tokenizer of the named architecture; of a model from memory, CLIP's with its context."""
    library, _, name = backbone.name.partition(":")
    if library != "open_clip":
        model: Any = backbone.model
        return _clip_tokenizer(getattr(model, "context_length", 77))
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        return _tokenizer_of(name if name.startswith("hf-hub:") else name.split("/")[0])
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        raise ModelError(
            f"the tokenizer of {backbone.name} could not be fetched ({reason[:200]}); connect to the hub "
            "once, choose a model with CLIP's built-in tokenizer (open_clip:ViT-B-16), or pass tokenizer="
        ) from error
    finally:
        logging.disable(level)


@lru_cache(maxsize=4)  # a merge table is read for a tenth of a second, and a page is asked word after word
def _clip_tokenizer(context: int) -> Tokenizer:
    import open_clip

    return open_clip.SimpleTokenizer(context_length=context)


@lru_cache(maxsize=4)
def _tokenizer_of(architecture: str) -> Tokenizer:
    import open_clip

    return open_clip.get_tokenizer(architecture)


def _check_tokens(backbone: Backbone, tokens: Tensor) -> None:
    model: Any = backbone.model
    known, context = getattr(model, "vocab_size", None), getattr(model, "context_length", None)
    highest, length = int(tokens.max()), tokens.shape[-1]
    if (known and highest >= known) or (context and length > context):
        raise ModelError(
            f"the tokenizer gives ids up to {highest} in rows of {length}, but the text tower of "
            f"{backbone.name} knows {known} ids in rows of {context}; pass its own tokenizer="
        )
