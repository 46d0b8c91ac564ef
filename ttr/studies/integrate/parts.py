"""Integration over a set of images: at chosen blocks, bare and with R test-time registers, in one go.

Every image is read once and runs once for each number of registers. What is left of it are a few numbers
and the vectors that CKA and the heads need; the vectors lie in scratch files that vanish with the study, so
memory holds one batch, whatever the number of images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ttr.analysis.faithfulness import checked
from ttr.analysis.integration import (
    GROUPS,
    PARTS,
    PartName,
    Split,
    cls_attention,
    full_output,
    restricted,
    split,
)
from ttr.analysis.register_content import strongest_token
from ttr.backbones.base import Backbone
from ttr.datasets.registry import ReadAhead
from ttr.errors import ImageError
from ttr.forward.batches import batches
from ttr.forward.blocks import SeenBlock, watch
from ttr.forward.record import record
from ttr.hooks import keep
from ttr.progress import progress_bar
from ttr.registers.neurons import RegisterNeurons
from ttr.registers.wrap import TestTimeRegisters
from ttr.run import Run
from ttr.studies.integrate.settings import IntegrationSettings
from ttr.tokens import TokenLayout

#: Ahead of a part: what attention alone gives CLS of it.
ATTENDED = "attended "
#: What vectors are kept of: CLS made of a part, and what attention alone gives of it; the strongest register
#: before and after the norm, and the strongest patch, where there is no register.
KINDS = (
    *(*PARTS, "full", *(f"{ATTENDED}{part}" for part in (*GROUPS, "full"))),
    *("before", "after", "patch before", "patch after"),
)
#: (number of registers, block, one of these).
Place = tuple[int, int, str]


@dataclass(eq=False)
class PartSamples:
    """What was measured of every image.

    Attributes:
        images: how many.
        layers: blocks of the model.
        vectors: {place: float32 [images, D]}, in scratch files; CLS as the model gives it out for parts and
            ``full`` (which stands under the last block), what attention alone gives CLS behind
            :data:`ATTENDED`, the strongest register of a block's input for ``before`` and ``after`` its norm,
            the strongest patch for ``patch before`` and ``patch after``.
        numbers: {place: {"cosine", "attended_cosine", "attention_share", "norm": float64 [images]}} of the
            parts, of patches in the last block {"agreement", "deletion"}, of registers "strongest" (which
            register is); NaN where a part has no such number (the skip connection has no attention).
        registers: {number of registers: each register of the last block's input, float32 [K, 2, images, D],
            before and after its norm, in scratch files}; test-time registers are equal and count as one.
        cls_cosines: {number of registers: cosine of CLS behind each block with that behind the last,
            float64 [images, L]}.
    """

    images: int
    layers: int
    vectors: dict[Place, np.ndarray] = field(default_factory=dict)
    numbers: dict[Place, dict[str, np.ndarray]] = field(default_factory=dict)
    registers: dict[int, np.ndarray] = field(default_factory=dict)
    cls_cosines: dict[int, np.ndarray] = field(default_factory=dict)
    _scratch: dict[tuple[int, int], np.ndarray] = field(default_factory=dict, repr=False)

    def keep(self, place: Place, start: int, vectors: Tensor) -> None:
        """Keep the vectors of a batch, [B, D], from image ``start`` on."""
        registers, block, kind = place
        # What a CLIP model gives out is narrower than its tokens.
        of = registers, vectors.shape[1]
        if of not in self._scratch:
            self._scratch[of] = _scratch(self.layers, len(KINDS), self.images, vectors.shape[1])
        self.vectors.setdefault(place, self._scratch[of][block, KINDS.index(kind)])
        self.vectors[place][start : start + len(vectors)] = vectors.float().cpu().numpy()

    def keep_registers(self, registers: int, start: int, *both: Tensor) -> None:
        """Keep the registers of a batch before and after the norm, [B, K, D] each, from ``start`` on."""
        _, count, size = both[0].shape
        if registers not in self.registers:
            self.registers[registers] = _scratch(count, 2, self.images, size)
        for place, tokens in enumerate(both):
            kept = self.registers[registers][:, place, start : start + len(tokens)]
            kept[:] = tokens.transpose(0, 1).float().cpu().numpy()

    def first(self, images: int) -> PartSamples:
        """Return what was measured of the first images alone, where fewer could be read than were there."""
        if images == self.images:
            return self
        return PartSamples(
            images,
            self.layers,
            {place: vectors[:images] for place, vectors in self.vectors.items()},
            {
                place: {name: values[:images] for name, values in numbers.items()}
                for place, numbers in self.numbers.items()
            },
            {registers: tokens[:, :, :images] for registers, tokens in self.registers.items()},
            {registers: cosines[:images] for registers, cosines in self.cls_cosines.items()},
        )

    def note(self, place: Place, start: int, **numbers: Tensor) -> None:
        """Keep numbers of a batch, [B] each, from image ``start`` on."""
        known = self.numbers.setdefault(place, {})
        for name, values in numbers.items():
            known.setdefault(name, np.full(self.images, np.nan))
            known[name][start : start + len(values)] = values.double().cpu().numpy()


def _scratch(*shape: int) -> np.ndarray:
    with tempfile.TemporaryFile() as file:  # its map outlives it; what is never written takes no space
        return np.memmap(file, np.float32, "w+", shape=shape)


@torch.no_grad()
def measure_parts(
    backbone: Backbone,
    neurons: RegisterNeurons,
    images: ReadAhead,
    settings: IntegrationSettings,
    run: Run,
) -> PartSamples:
    """Measure what CLS is made of, at each block and with each number of registers.

    Args:
        backbone: the bare backbone.
        neurons: its register neurons; an empty set makes blank tokens of the registers.
        images: what is measured on; those that cannot be read leave no row.
        settings: the blocks, the numbers of registers, and how CLS is restricted.
        run: batch size and progress; the bar counts images times passes.

    Raises:
        ModelError: the model has no CLS token, there is no such block, or contributions cannot be told apart.
        ImageError: there are no images.
    """
    backbone.require_cls()
    places = sorted({backbone.layer(block, "block") for block in settings.blocks})
    if not len(images):
        raise ImageError("no images were given; needed at least one to measure on")
    found = PartSamples(len(images), backbone.num_layers)
    contexts: dict[int, AbstractContextManager[Any]] = {
        r: TestTimeRegisters(backbone, neurons, num_registers=r, variant=settings.variant)
        if r
        else nullcontext()
        for r in settings.counts
    }
    done = 0
    with progress_bar("integrating", len(images) * len(contexts), show=run.progress) as advance:
        for batch in batches(backbone, images, run.batch_size):
            for registers, context in contexts.items():
                with context:
                    _see(found, backbone, batch, registers, places, done, settings)
                advance(len(batch))
            done += len(batch)
    return found.first(done)


def _see(
    found: PartSamples,
    backbone: Backbone,
    batch: Tensor,
    registers: int,
    blocks: Sequence[int],
    start: int,
    settings: IntegrationSettings,
) -> None:
    """Run one batch once, and keep what the study wants of it."""

    def cls_of(x: Tensor) -> Tensor:
        return backbone.layout.select(x, "cls")[:, 0].double()

    with watch(backbone, blocks[0]) as seen, keep(backbone.sites.blocks, cls_of) as path:
        layout = record(backbone, batch).layout
    full = full_output(backbone, layout, seen)
    found.keep((registers, backbone.num_layers - 1, "full"), start, full)
    cosines = F.cosine_similarity(torch.stack(path, dim=1), path[-1][:, None], dim=2)
    known = found.cls_cosines.setdefault(registers, np.empty((found.images, backbone.num_layers)))
    known[start : start + len(batch)] = cosines.cpu().numpy()
    for block in blocks:
        outputs = restricted(
            backbone,
            layout,
            block,
            seen,
            renormalise=settings.renormalise,
            keep_skip=settings.keep_skip,
        )
        made_of = split(backbone, layout, block, seen[block])
        found.keep((registers, block, f"{ATTENDED}full"), start, made_of.attended())
        for part in (part for part in PARTS if part in outputs):
            place = (registers, block, part)
            found.keep(place, start, outputs[part])
            found.note(place, start, **_numbers(part, outputs[part], full, made_of))
            if part in GROUPS:
                found.keep((registers, block, f"{ATTENDED}{part}"), start, made_of.attended(part))
        if block == backbone.num_layers - 1:
            weights = cls_attention(backbone, block, seen[block])
            found.note(
                (registers, block, "patches"), start, **checked(backbone, layout, block, seen, weights)
            )
        _see_strongest(found, layout, seen[block], (registers, block), start)


def _see_strongest(
    found: PartSamples, layout: TokenLayout, seen: SeenBlock, place: tuple[int, int], start: int
) -> None:
    """Keep a block's strongest register; of the last block every register, or else the strongest patch."""
    last = place[1] == found.layers - 1
    if layout.registers + layout.test_time:
        strongest = strongest_token(layout, seen.tokens, seen.normed)
        distinct = layout.registers + min(layout.test_time, 1)
        chosen = strongest.place.clamp(max=distinct - 1)
        found.note((*place, "registers"), start, strongest=chosen)
        found.keep((*place, "before"), start, strongest.before)
        found.keep((*place, "after"), start, strongest.after)
        if last:
            both = (layout.select(x, "all_registers")[:, :distinct] for x in (seen.tokens, seen.normed))
            found.keep_registers(place[0], start, *both)
    elif last:
        strongest = strongest_token(layout, seen.tokens, seen.normed, "patches")
        found.keep((*place, "patch before"), start, strongest.before)
        found.keep((*place, "patch after"), start, strongest.after)


def _numbers(part: PartName, output: Tensor, full: Tensor, made_of: Split) -> dict[str, Tensor]:
    """Return the numbers of a part, [B] each; the skip connection has no attention."""
    numbers = {
        "cosine": F.cosine_similarity(output.double(), full.double()),
        "norm": made_of.contributions[part].norm(dim=1),
    }
    if part in made_of.shares:
        numbers["attention_share"] = made_of.shares[part]
        alone, whole = made_of.attended(part).double(), made_of.attended().double()
        numbers["attended_cosine"] = F.cosine_similarity(alone, whole)
    return numbers
