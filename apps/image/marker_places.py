"""Every marker in every corner of one picture: how often is it followed? No widgets.

A single marker may be followed by chance. So each is put in each corner, and the share k / n of places
where the map (or the answer) follows comes with Wilson's interval (1927; Brown, Cai and DasGupta 2001), and
before against after with McNemar's exact test on the same places. They are places on *one* picture: the
interval speaks of this picture, not of patients. Reactions and the rule are those of
:mod:`ttr.apps.image.marker`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from ttr.apps.image.framing import frame_of
from ttr.apps.image.marker import Asked, Reaction, Seen, reaction, touched
from ttr.apps.image.marker_drawing import CORNERS, KINDS, Corner, Kind, Marker, draw_marker
from ttr.backbones.base import Backbone
from ttr.forward.batches import batches
from ttr.forward.record import record
from ttr.registers.neurons import RegisterNeurons
from ttr.registers.wrap import TestTimeRegisters
from ttr.statistics.estimates import CONFIDENCE
from ttr.statistics.inference import mcnemar

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


@dataclass(frozen=True)
class Followed:
    """At how many of the places something follows the marker.

    Attributes:
        count: how many, 0..n.
        places: n.
        low: lower end of Wilson's 95 % interval of the share, 0..1.
        high: its upper end.
    """

    count: int
    places: int
    low: float
    high: float


@dataclass(frozen=True)
class Tally:
    """One question before and after, over the same places.

    Attributes:
        before: the bare model.
        after: the wrapped model.
        p: two-sided p of McNemar's exact test of before against after.
    """

    before: Followed
    after: Followed
    p: float

    @property
    def differs(self) -> bool:
        """Whether before and after can be told apart at 5 %."""
        return self.p < 1 - CONFIDENCE


@dataclass(frozen=True, eq=False)
class Places:
    """Reactions to every marker in every place. Make one with :func:`all_places`.

    Attributes:
        markers: the n markers.
        before: how the bare model reacts to each.
        after: how the wrapped model reacts to each.
    """

    markers: tuple[Marker, ...]
    before: tuple[Reaction, ...] = field(repr=False)
    after: tuple[Reaction, ...] = field(repr=False)

    @property
    def maps(self) -> Tally:
        """Return at how many places the map follows."""
        return _tally(*([r.map_follows for r in run] for run in (self.before, self.after)))

    @property
    def answers(self) -> Tally | None:
        """Return at how many places the answer changes; None where nothing answers."""
        runs = [[r.reply for r in run] for run in (self.before, self.after)]
        if any(reply is None for run in runs for reply in run):
            return None
        return _tally(*([reply is not None and reply.changed for reply in run] for run in runs))


def all_places(
    backbone: Backbone,
    neurons: RegisterNeurons,
    image: Image,
    *,
    size: float = Marker.size,
    kinds: Sequence[Kind] = KINDS,
    corners: Sequence[Corner] = CORNERS,
    asked: Asked | None = None,
    num_registers: int = 1,
    batch_size: int = 8,
) -> Places:
    """Put every marker in every corner of one picture, one at a time.

    Args:
        backbone: the bare backbone.
        neurons: its register neurons.
        image: an RGB picture.
        size: of every marker, as :class:`Marker` has it.
        kinds: the markers.
        corners: the places.
        asked: what answers from a feature, or None.
        num_registers: R >= 0.
        batch_size: pictures a pass.

    Raises:
        ImageError: a marker leaves no trace in what the model sees.
        TTRError: as :func:`ttr.apps.image.marker.marker_test`.
    """
    backbone.require_cls()
    markers = tuple(Marker(kind, corner, size) for kind in kinds for corner in corners)
    wrap = TestTimeRegisters(backbone, neurons, num_registers=num_registers)
    frame, clean = frame_of(backbone, image.size), backbone.preprocess(image)
    inputs = [clean, *(backbone.preprocess(draw_marker(image, marker, frame)) for marker in markers)]
    patches = [touched(backbone, clean, marked) for marked in inputs[1:]]
    runs = []
    for context in (nullcontext(), wrap):
        with context:
            first, *rest = _views(backbone, torch.stack(inputs), batch_size)
        runs.append(
            tuple(reaction(first, seen, mask, asked) for seen, mask in zip(rest, patches, strict=True))
        )
    return Places(markers, *runs)


def _views(backbone: Backbone, pictures: Tensor, batch_size: int) -> Iterator[Seen]:
    for batch in batches(backbone, pictures, batch_size):
        passed = record(backbone, batch, attention=True)
        rows = passed.layout.select(passed.cls_attention[-1].mean(dim=1), "patches")
        maps = passed.layout.to_grid(rows).cpu().numpy()
        for attention, feature in zip(maps, passed.embedding.float().cpu().numpy(), strict=True):
            yield Seen(attention, feature)


def _tally(before: Sequence[bool], after: Sequence[bool]) -> Tally:
    test = mcnemar(np.array(before), np.array(after))
    return Tally(followed(before), followed(after), test.p)


def followed(places: Sequence[bool]) -> Followed:
    """Count, and return the share's interval."""
    from scipy.stats import binomtest

    interval = binomtest(sum(places), len(places)).proportion_ci(CONFIDENCE, method="wilson")
    return Followed(sum(places), len(places), float(interval.low), float(interval.high))
