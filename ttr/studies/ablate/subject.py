"""Run one batch under many conditions, and share what they have in common.

The bare pass (``full``) comes first and keeps the blocks' outputs at which conditions begin. A condition that
first replaces tokens at block l starts from the full output of block l: the blocks up to there are not run
again, which is exact, since nothing before differs. The model's own forward does all the rest, its embedding,
norm and head included; a wrap that is installed takes part.

Replacing happens at block outputs, so at the last block it changes the tokens that are read and nothing else:
a head on CLS cannot notice what became of a register there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.digests import sha256
from ttr.forward.calibration import Calibration
from ttr.hooks import bypass, capture, edit, evaluation_mode, keep
from ttr.registers.arms import Arm
from ttr.studies.ablate.conditions import BARE, Condition
from ttr.studies.ablate.donors import Case, draw_donors, draw_from_bank, may_give, strangers
from ttr.studies.ablate.substitute import positions, substitute
from ttr.tokens import TokenLayout, Tokens

#: Called with (block, attention input [B, N, D], its keyword arguments).
SeeAttention = Callable[[int, Tensor, Mapping[str, Any]], None]


@dataclass(frozen=True, eq=False)
class Subject:
    """The model under study, and what decides every replacement.

    Attributes:
        backbone: the bare backbone.
        arm: what is done to it in every condition but ``bare``: nothing, or test-time registers.
        calibration: for the substitutes that need one.
        seed: of every random draw.
        donors: whose tokens may stand in, one of the settings' ``DONORS``.
        bank: the cases of the calibration's bank; empty: they are nobody's that is studied.
    """

    backbone: Backbone
    arm: Arm
    calibration: Calibration | None = None
    seed: int = 42
    donors: str = "any"
    bank: tuple[Case, ...] = ()

    @property
    def layout(self) -> TokenLayout:
        """The tokens of every condition but ``bare``, at the native image size."""
        return self.backbone.layout.with_test_time(self.arm.num_registers)

    def batch(
        self,
        images: Tensor,
        key: str,
        conditions: Iterable[Condition],
        *,
        cases: Sequence[Case] = (),
        keep: Iterable[int] = (),
        attention: SeeAttention | None = None,
    ) -> Batch:
        """Run a batch [B, 3, H, W] in full; the conditions then start from it.

        Args:
            images: the batch.
            key: names it; with the seed it decides the draws.
            conditions: those that will be asked for.
            cases: whose images they are; none: each is somebody else's.
            keep: further blocks whose outputs are kept.
            attention: sees every block's attention input.
        """
        firsts = {condition.blocks[0] for condition in conditions if condition.blocks}
        full = self.run(images, firsts | set(keep), attention)
        return Batch(self, images, key, full, tuple(cases) or tuple(strangers("batch", len(images))))

    def draw(self, substitute: str, cases: Sequence[Case], generator: torch.Generator) -> Tensor | None:
        """Draw whose token each image takes, int64 [B]; None where a substitute takes nobody's.

        Raises:
            OptionError: nobody may give to one of them.
        """
        if substitute == "shuffle":
            return draw_donors(may_give(cases, cases, self.donors), generator)
        if substitute != "resample" or self.calibration is None:
            return None
        bank = self.bank or strangers("bank", len(self.calibration.bank))
        return draw_from_bank(may_give(cases, bank, self.donors), generator)

    @torch.no_grad()
    def run(
        self, images: Tensor, blocks: Iterable[int], attention: SeeAttention | None, *, bare: bool = False
    ) -> Passed:
        """Run a batch without any replacement and keep the outputs of some blocks; see :meth:`batch`."""
        wanted, sites = set(blocks), self.backbone.sites
        seen = sorted(wanted | {self.backbone.num_layers - 1})
        images = self.backbone.prepare(images)
        with ExitStack() as stack:
            if not bare:
                stack.enter_context(self.arm.applied(self.backbone))
            stack.enter_context(evaluation_mode(self.backbone.model))
            kept = stack.enter_context(keep([sites.blocks[block] for block in seen]))
            if attention is not None:
                stack.enter_context(capture(sites.attention, attention))
            embedding = self.backbone.features(images)
        outputs = {block: x for block, x in zip(seen, kept, strict=True) if block in wanted}
        return _passed(self.backbone, images, embedding, kept[-1], outputs)


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch of a subject, its full pass done.

    Attributes:
        subject: whose.
        images: the batch, [B, 3, H, W].
        key: its name.
        full: its full pass.
        cases: whose images they are.
    """

    subject: Subject
    images: Tensor
    key: str
    full: Passed
    cases: tuple[Case, ...]

    @torch.no_grad()
    def under(self, condition: Condition, attention: SeeAttention | None = None) -> Passed:
        """Return the batch under a condition, run from the first block at which it differs.

        ``attention`` sees the attention inputs of the blocks that run: those behind the first replaced one
        (every block for ``bare``, none for ``full``). Before that they are the full pass's.

        Raises:
            OptionError: nobody may give to an image, or no calibration where one is needed.
        """
        subject, backbone = self.subject, self.subject.backbone
        if condition == BARE:
            return subject.run(self.images, (), attention, bare=True)
        if not condition.blocks:
            return self.full
        images = backbone.prepare(self.images)
        where = positions(condition, len(images), self._generator(condition.tokens))
        generator = self._generator(condition.name)
        first, blocks = condition.blocks[0], backbone.sites.blocks
        donors: list[Tensor] = []

        def replacing(block: int) -> Callable[[Tensor], Tensor]:
            def replaced(x: Tensor) -> Tensor:
                given: dict[str, Any] = {"calibration": subject.calibration, "generator": generator}
                drawn = subject.draw(condition.substitute, self.cases, generator)
                if drawn is not None:
                    donors.append(drawn)
                return substitute(x, block, where, condition.substitute, **given, donors=drawn)

            return replaced

        def see_attention(index: int, x: Tensor, kwargs: Mapping[str, Any]) -> None:
            assert attention is not None
            attention(first + 1 + index, x, kwargs)

        with ExitStack() as stack:
            stack.enter_context(subject.arm.applied(backbone))
            stack.enter_context(evaluation_mode(backbone.model))
            known = self.full.outputs[first]
            stack.enter_context(bypass([site.module for site in blocks[: first + 1]], known))
            stack.enter_context(edit([(blocks[block], replacing(block)) for block in condition.blocks]))
            kept = stack.enter_context(keep(blocks[-1:]))
            if attention is not None:
                stack.enter_context(capture(backbone.sites.attention[first + 1 :], see_attention))
            embedding = backbone.features(images)
        passed = _passed(backbone, images, embedding, kept[0], {})
        passed.donors = torch.stack(donors) if donors else None
        if condition.random:
            held = torch.zeros(len(images), passed.layout.length, dtype=torch.bool).scatter(1, where, True)
            passed.replaced = passed.layout.select(held, "patches")
        return passed

    def _generator(self, what: str) -> torch.Generator:
        text = "\n".join([str(self.subject.seed), what, self.key])
        return torch.Generator().manual_seed(int(sha256([text], 16), 16) >> 1)


@dataclass(eq=False)
class Passed:
    """A batch under one condition.

    Attributes:
        layout: its tokens.
        embedding: global feature, [B, D'].
        tokens: after the final norm.
        last: the last block's output as it is, [B, N, D].
        outputs: the blocks' outputs that were kept, {block: [B, N, D]}.
        replaced: which patches were replaced at random, bool [B, P], or None.
        donors: whose token each image took at each replaced block, int64 [L', B]: of the batch, or of the
            calibration's bank; or None.
    """

    layout: TokenLayout
    embedding: Tensor
    tokens: Tokens
    last: Tensor
    outputs: dict[int, Tensor] = field(default_factory=dict)
    replaced: Tensor | None = None
    donors: Tensor | None = None


@torch.no_grad()
def normed(backbone: Backbone, x: Tensor, layout: TokenLayout) -> Tokens:
    """Return the tokens of a block's output [B, N, D] after the final norm."""
    return layout.split(backbone.sites.final_norm.forward(x))


def _passed(
    backbone: Backbone, images: Tensor, embedding: Tensor, last: Tensor, kept: dict[int, Tensor]
) -> Passed:
    layout = backbone.layout_for(images).for_length(last.shape[1])
    return Passed(layout, embedding, normed(backbone, last, layout), last, kept)
