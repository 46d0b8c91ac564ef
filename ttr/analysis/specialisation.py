"""What each register is about: how alike the registers are, and which patches each resembles most.

The gallery compares a register with the patches of the same image, by cosine, in one pass: it shows what the
register takes up *there*. What a register resembles in general, its mean over all images tells, handed in for
every image; the gallery is the same. (Parodi and Segado 2026 show "learned representations".)

At most one patch an image (a patient, where groups are given) enters a register's gallery, or a single image
with a uniform border would fill it.
A resemblance is no use: what a register holds need not matter to any task. The substitutions say that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ttr.checks import integer
from ttr.errors import OptionError
from ttr.wording import counted


@torch.no_grad()
def register_cosines(registers: Tensor) -> Tensor:
    """Return the cosine between the registers of each image.

    Args:
        registers: float [B, T, D].

    Returns:
        Float32 [B, T, T], symmetric, -1..1, 1 on the diagonal (0 for a register that is zero).
    """
    if registers.ndim != 3:
        raise OptionError(f"got registers of shape {tuple(registers.shape)}; needed [B, T, D]")
    unit = F.normalize(registers.float(), dim=-1)
    return (unit @ unit.mT).clamp(-1, 1)


@dataclass(frozen=True)
class NearPatch:
    """One patch of a gallery.

    Attributes:
        image: name of its image.
        row: of the patch grid, from the top.
        column: from the left.
        cosine: to the register, -1..1.
    """

    image: str
    row: int
    column: int
    cosine: float


class NearestPatches:
    """The patches nearest to each register, gathered batch by batch.

    Args:
        top: patches to keep a register, each of another image, and of another group.
    """

    def __init__(self, top: int = 8) -> None:
        self.top = integer("top", top, 1)
        self._found: list[list[NearPatch]] | None = None
        self._group: dict[str, str] = {}

    @torch.no_grad()
    def add(
        self,
        names: Sequence[str],
        registers: Tensor,
        patches: Tensor,
        grid: tuple[int, int],
        *,
        groups: Sequence[str] | None = None,
    ) -> None:
        """Take a batch.

        Args:
            names: of its images, B.
            registers: float [B, T, D]; of the images themselves, or one mean for all of them.
            patches: float [B, P, D], as far along the network as the registers are.
            grid: patch grid, (rows, columns).
            groups: of its images, B; None: each is a group of its own.

        Raises:
            OptionError: shapes that do not belong together, or another number of registers than before.
        """
        batch, count = len(names), registers.shape[1]
        fits = registers.shape[::2] == patches.shape[::2] and len(patches) == batch
        if not fits or patches.shape[1] != grid[0] * grid[1]:
            raise OptionError(
                f"got {batch} names, registers {tuple(registers.shape)}, patches {tuple(patches.shape)} and "
                f"a grid {grid}; needed B names, [B, T, D], [B, P, D] and P = rows x columns"
            )
        if self._found is None:
            self._found = [[] for _ in range(count)]
        if len(self._found) != count:
            raise OptionError(
                f"got {counted(count, 'register')} after {len(self._found)}; needed runs of one kind"
            )
        self._group |= zip(names, names if groups is None else groups, strict=True)
        cosines = F.normalize(registers.float(), dim=-1) @ F.normalize(patches.float(), dim=-1).mT
        best, where = cosines.clamp(-1, 1).cpu().max(dim=2)
        for register, kept in enumerate(self._found):
            column = zip(names, best[:, register].tolist(), where[:, register].tolist(), strict=True)
            kept += [NearPatch(name, at // grid[1], at % grid[1], cosine) for name, cosine, at in column]
            # A stable sort: of equal patches the one that came first stays first, whatever the batches.
            kept.sort(key=lambda patch: -patch.cosine)
            best_of = {self._group[patch.image]: patch for patch in reversed(kept)}
            kept[:] = [patch for patch in kept if best_of[self._group[patch.image]] is patch][: self.top]

    def gallery(self) -> tuple[tuple[NearPatch, ...], ...]:
        """Return each register's patches, nearest first; empty before the first batch."""
        return tuple(tuple(kept) for kept in self._found or [])
