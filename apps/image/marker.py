"""Does the model follow a marker? One picture with and without it, before and after. No widgets.

Radiographs carry letters of lead, and a model that learnt to read them may answer by the letter and not by
the anatomy. So a marker is burnt into the picture, and both models see it with and without. Let M be the
patches that the marker changed, P all patches, and a_i the attention of CLS to patch i in the last block
(mean of the heads).

    share  s = sum_{i in M} a_i / sum_{i in P} a_i,      density  d = s / (|M| / |P|),

so d = 1 where the marker's squares get no more than their area. The sum is over the patches alone:
registers take attention from all patches alike, and counting it would make every map "follow less" after
the move.

The rule, stated before anything was measured (:data:`RULE`): the *map* follows if d >= 2 with the marker
and s has grown by half or more; the *answer* follows if the likeliest class is another one with the marker.
A model follows the marker if either does.

One picture and one place prove nothing: :mod:`ttr.apps.image.marker_places` asks every marker in every
corner.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from ttr.apps.image.framing import frame_of
from ttr.apps.image.inspection import Inspection, Trace, inspect
from ttr.apps.image.marker_drawing import Marker, draw_marker
from ttr.backbones.base import Backbone
from ttr.errors import ImageError
from ttr.registers.neurons import RegisterNeurons

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

DENSE, GROWN = 2.0, 1.5
RULE = (
    f"The map follows the marker if the marker's squares get at least {DENSE:g} times the attention that "
    f"their area would give, and at least {GROWN:g} times what they got without it. The answer follows it "
    "if the likeliest class changes."
)
#: Said in a line of its own: another attack on other images. Never beside a measured number.
PUBLISHED = (
    "Published, on natural images: attacks by text in the picture succeeded in 50.5 % of cases before and in "
    "7.5 % after the register neurons were edited (Jiang et al. 2025). Another attack on other images: no "
    "yardstick for the numbers here."
)
#: A patch is the marker's when this share of its pixels changed by more than a tenth of the grey scale.
TOUCHED, CHANGED = 0.05, 0.1


class Asked(Protocol):
    """What answers: a head, or texts."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""

    def probabilities(self, feature: np.ndarray) -> np.ndarray:
        """Return the probability of each class, [C], of a feature [D]."""


@dataclass(frozen=True)
class Reply:
    """What is answered without and with the marker.

    Attributes:
        clean: likeliest class without the marker.
        marked: likeliest class with it.
        was: probability of ``clean`` without the marker, 0..1.
        now: probability of ``clean`` with it, 0..1.
    """

    clean: str
    marked: str
    was: float
    now: float

    @property
    def changed(self) -> bool:
        """Whether the marker changes the answer."""
        return self.clean != self.marked


@dataclass(frozen=True)
class Reaction:
    """How one model reacts to a marker.

    Attributes:
        clean: share s of the module's formula without the marker, 0..1.
        marked: share s with it, 0..1.
        area: share of the patches that the marker covers, 0..1.
        peak_clean: whether the brightest patch of the clean map lies where the marker will be.
        peak_marked: whether that of the marked map lies on the marker.
        cosine: of the picture's feature without and with the marker, -1..1.
        reply: what was answered, or None where nothing answers.
    """

    clean: float
    marked: float
    area: float
    peak_clean: bool
    peak_marked: bool
    cosine: float
    reply: Reply | None = None

    @property
    def map_follows(self) -> bool:
        """Whether the map follows, by :data:`RULE`."""
        return self.marked >= DENSE * self.area and self.marked >= GROWN * self.clean

    @property
    def occupied(self) -> bool:
        """Whether these squares were as dense without the marker already: an artifact's place, say."""
        return self.clean >= DENSE * self.area

    @property
    def follows(self) -> bool:
        """Whether the map or the answer follows."""
        return self.map_follows or (self.reply is not None and self.reply.changed)


@dataclass(frozen=True, eq=False)
class MarkerTest:
    """One marker on one picture, before and after. Make one with :func:`marker_test`.

    Attributes:
        marker: what was burnt in.
        image: the picture with it, RGB.
        patches: which patches it changed, bool [rows, columns].
        clean: both runs without it.
        marked: both runs with it.
        before: how the bare model reacts.
        after: how the wrapped model reacts.
    """

    marker: Marker
    image: Image
    patches: np.ndarray = field(repr=False)
    clean: Inspection
    marked: Inspection
    before: Reaction
    after: Reaction

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of the marker's patches, in shares of what the model saw."""
        rows, columns = (np.flatnonzero(self.patches.any(axis=axis)) for axis in (1, 0))
        high, wide = self.patches.shape
        return columns[0] / wide, rows[0] / high, (columns[-1] + 1) / wide, (rows[-1] + 1) / high

    @property
    def verdict(self) -> str:
        """Return the finding in words."""
        before, after = self.before.follows, self.after.follows
        if before and after:
            return "The model follows the marker, before and after the move."
        if before:
            return "The model follows the marker before the move, and does not after it."
        if after:
            return "The model does not follow the marker before the move, and does after it."
        return "The model does not follow the marker, neither before nor after the move."


def marker_test(
    backbone: Backbone,
    neurons: RegisterNeurons,
    image: Image,
    marker: Marker,
    *,
    asked: Asked | None = None,
    num_registers: int = 1,
) -> MarkerTest:
    """Trace a picture through both models without and with a marker: four passes.

    Args:
        backbone: the bare backbone.
        neurons: its register neurons.
        image: an RGB picture.
        marker: what to burn in, and where.
        asked: what answers from a feature, or None.
        num_registers: R >= 0.

    Raises:
        ImageError: the marker leaves no trace in what the model sees.
        TTRError: as :func:`ttr.apps.image.inspection.inspect`.
    """
    drawn = draw_marker(image, marker, frame_of(backbone, image.size))
    patches = touched(backbone, *(backbone.preprocess(picture) for picture in (image, drawn)))
    clean, marked = (
        inspect(backbone, neurons, picture, num_registers=num_registers) for picture in (image, drawn)
    )
    before, after = (
        reaction(seen_in(bare), seen_in(burnt), patches, asked)
        for bare, burnt in zip(clean.runs, marked.runs, strict=True)
    )
    return MarkerTest(marker, drawn, patches, clean, marked, before, after)


def touched(backbone: Backbone, clean: Tensor, marked: Tensor) -> np.ndarray:
    """Return which patches differ between two preprocessed pictures [3, H, W], bool [rows, columns].

    Raises:
        ImageError: none does.
    """
    change = (marked - clean).float().abs()
    if backbone.normalisation is not None:
        change = change * backbone.normalisation[1][:, None, None]
    pixels = (change.amax(dim=0) > CHANGED).float()
    share = torch.nn.functional.avg_pool2d(pixels[None], backbone.patch_size, ceil_mode=True)[0]
    found = (share >= TOUCHED).cpu().numpy()
    if not found.any():
        raise ImageError("the marker leaves no trace in what the model sees; make it larger")
    return found


@dataclass(frozen=True, eq=False)
class Seen:
    """What a reaction is measured on.

    Attributes:
        attention: of CLS to each patch in the last block, mean of the heads, [rows, columns].
        feature: the picture's feature, [D].
    """

    attention: np.ndarray
    feature: np.ndarray


def seen_in(run: Trace) -> Seen:
    """Return what a reaction is measured on of a run."""
    attention = run.attention_map(len(run.attention) - 1)
    assert attention is not None
    return Seen(attention, run.feature)


def reaction(clean: Seen, marked: Seen, patches: np.ndarray, asked: Asked | None) -> Reaction:
    """Return how a model reacts whose view of the picture without and with the marker is given."""
    first, second = (seen.feature.astype(np.float64) for seen in (clean, marked))
    return Reaction(
        clean=share_on(clean.attention, patches),
        marked=share_on(marked.attention, patches),
        area=float(patches.mean()),
        peak_clean=bool(patches.flat[clean.attention.argmax()]),
        peak_marked=bool(patches.flat[marked.attention.argmax()]),
        cosine=float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second))),
        reply=None if asked is None else _reply(asked, clean.feature, marked.feature),
    )


def share_on(attention: np.ndarray, patches: np.ndarray) -> float:
    """Return share s of the module's formula, 0..1, of a map and a mask, both [rows, columns]."""
    return float(attention[patches].sum(dtype=np.float64) / attention.sum(dtype=np.float64))


def _reply(asked: Asked, clean: np.ndarray, marked: np.ndarray) -> Reply:
    first, second = asked.probabilities(clean), asked.probabilities(marked)
    best = int(first.argmax())
    return Reply(
        asked.classes[best], asked.classes[int(second.argmax())], float(first[best]), float(second[best])
    )
