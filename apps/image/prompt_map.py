"""Where in the picture do words fit? The cosine of each patch with a text, before and after. No widgets.

CLIP (Radford et al. 2021, arXiv 2103.00020) compares a text with the whole image: CLS of the last block,
behind the final norm and the projection. The map sends every patch the same way. With p_i the token of patch
i at the last block's output, W the projection and w_t the unit vector of a text
(:mod:`ttr.evaluate.zero_shot`),

    z_i = W^T norm(p_i),     s_t(i) = cos(z_i, w_t),     s_t(image) = cos(W^T norm(CLS), w_t).

This is the raw similarity map of Li et al. (2023, CLIP Surgery, arXiv 2304.05653), who found that it often
lights up the background rather than what was named. MaskCLIP (Zhou et al. 2022, arXiv 2112.01071) reads the
last block's values instead of its output; we do not, since the output is what the registers change and what
the deployed model has. CLIP's loss never touched z_i, only CLS was trained against text: a patch's cosine
is a hint, not a measurement. Much of it is common to all texts, so :meth:`PromptMaps.difference` takes the
mean of the other texts away, in the manner of their feature surgery.

Texts are embedded once: the wrap touches the image tower alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from ttr.backbones.base import Backbone
from ttr.backbones.open_clip_vit import TowerOutput
from ttr.errors import ModelError, OptionError
from ttr.evaluate.zero_shot import Tokenizer, class_embeddings, has_text_tower
from ttr.registers.neurons import RegisterNeurons
from ttr.registers.wrap import TestTimeRegisters

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

MOST_TEXTS, LONGEST = 6, 120
#: The words as they were typed, without a sentence around them.
AS_TYPED = "{}"
NO_WORDS = "A phantom's text tower is random, too: it knows no words, and its map means nothing."
RANDOM = "The weights are random: the model knows no words, and its map means nothing."


@dataclass(frozen=True, eq=False)
class PromptMaps:
    """How well texts fit each patch of one image. Make one with :func:`prompt_map`.

    All arrays are float32 cosines, -1..1.

    Attributes:
        texts: the T texts, as typed.
        before: bare model, [T, rows, columns].
        after: wrapped model, [T, rows, columns].
        image_before: cosine of the whole image (its CLS) with each text, bare model, [T].
        image_after: the same, wrapped model, [T].
        caution: a sentence that must stand beside the maps, or "".
    """

    texts: tuple[str, ...]
    before: np.ndarray = field(repr=False)
    after: np.ndarray = field(repr=False)
    image_before: np.ndarray
    image_after: np.ndarray
    caution: str = ""

    def pair(self, index: int) -> list[np.ndarray]:
        """Return the maps of one text before and after, [rows, columns] each."""
        return [self.before[index], self.after[index]]

    def difference(self, index: int) -> list[np.ndarray]:
        """Return how much better one text fits than the mean of the others: [rows, columns] twice, -2..2.

        Raises:
            OptionError: there is no other text.
        """
        if len(self.texts) < 2:
            raise OptionError("one text has no others to be compared with; needed two or more")
        total = len(self.texts)
        return [
            maps[index] - (maps.sum(axis=0) - maps[index]) / (total - 1) for maps in (self.before, self.after)
        ]


def read_texts(words: str) -> tuple[str, ...]:
    """Return the texts of a field, separated by commas, semicolons or lines; each once, in their order.

    Raises:
        OptionError: none, more than six, or one of more than 120 characters.
    """
    texts = tuple(dict.fromkeys(" ".join(part.split()) for part in re.split(r"[,;\n]", words or "")))
    texts = tuple(text for text in texts if text)
    if not texts:
        raise OptionError("there are no words; type what to look for, such as: metal implant, bone")
    if len(texts) > MOST_TEXTS:
        raise OptionError(f"got {len(texts)} texts; needed {MOST_TEXTS} at most")
    if max(map(len, texts)) > LONGEST:
        raise OptionError(f"a text has more than {LONGEST} characters; needed a few words")
    return texts


def can_read(backbone: Backbone) -> bool:
    """Return whether :func:`prompt_map` can be asked of a backbone: a CLIP model with both towers."""
    return has_text_tower(backbone) and isinstance(backbone.features, TowerOutput)


@torch.no_grad()
def prompt_map(
    backbone: Backbone,
    neurons: RegisterNeurons,
    image: Image,
    texts: Sequence[str],
    *,
    template: str = AS_TYPED,
    num_registers: int = 1,
    tokenizer: Tokenizer | None = None,
) -> PromptMaps:
    """Return the maps of the module's formula for one image: two passes, whatever the number of texts.

    Args:
        backbone: a whole CLIP model.
        neurons: its register neurons.
        image: a PIL image.
        texts: one or more, each once.
        template: a sentence with ``{}`` where a text goes.
        num_registers: R >= 0.
        tokenizer: texts -> token ids [n, context]; None: the architecture's own.

    Raises:
        ModelError: no text tower, no tokenizer that fits it, or a tower that pools by attention.
        OptionError: texts, template or ``num_registers`` that cannot be used.
        NeuronsError: the neurons belong to another backbone.
    """
    words = class_embeddings(backbone, texts, templates=[template], tokenizer=tokenizer).cpu()
    tower: Any = backbone.features
    if not isinstance(tower, TowerOutput):
        raise ModelError(f"{backbone.name} is no open_clip model; needed one, such as open_clip:ViT-B-16")
    wrap = TestTimeRegisters(backbone, neurons, num_registers=num_registers)
    batch = backbone.preprocess(image)[None]
    maps: list[np.ndarray] = []
    wholes: list[np.ndarray] = []
    for context in (nullcontext(), wrap):
        with context:
            embedding, tokens = backbone.embed_with_tokens(batch)
        cosines = _cosines(tower.shared(tokens.patches)[0], words)
        maps.append(cosines.T.reshape(len(texts), *tokens.grid).numpy())
        wholes.append(_cosines(embedding, words)[0].numpy())
    return PromptMaps(
        texts=tuple(texts),
        before=maps[0],
        after=maps[1],
        image_before=wholes[0],
        image_after=wholes[1],
        caution=_caution(backbone),
    )


def _cosines(tokens: Tensor, words: Tensor) -> Tensor:
    """Return float32 [N, T] of tokens [N, E] and unit vectors [T, E]."""
    return F.normalize(tokens.float().cpu(), dim=-1) @ words.T


def _caution(backbone: Backbone) -> str:
    if backbone.warning:
        return NO_WORDS
    return RANDOM if backbone.weights.origin == "random" else ""
