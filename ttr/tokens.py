"""Where each token stands in the sequence: the only place that slices tokens.

A Vision Transformer's sequence is, in this order and for every family we support,

    CLS | trained registers | test-time registers | patches (row by row of the patch grid)

The test-time registers stand right behind the model's own prefix, not at the end, so that the slices
after them stay true and rotary position embeddings can skip them as they skip the rest of the prefix.
Whoever needs "the patches" asks a :class:`TokenLayout`; nobody writes ``x[:, 1:]``. That habit is how an
appended register ends up counted as a patch, and how ``1:-0`` selects nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from ttr.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

#: The attribute of a tensor that holds the registers which belong to it; what is computed of it has none.
ASIDE = "_ttr_registers_of_"

Group = Literal["cls", "registers", "test_time", "all_registers", "ahead", "patches", "prefix"]


@dataclass(frozen=True)
class TokenLayout:
    """How many tokens of each kind a sequence holds, and the patch grid.

    Attributes:
        cls: 1 when the model has a CLS token, else 0.
        registers: number of trained registers (0 for CLIP and plain DINOv2, 4 for the reg4 models).
        test_time: number R >= 0 of inserted test-time registers.
        grid: patch grid as (rows, columns).
    """

    cls: int
    registers: int
    test_time: int
    grid: tuple[int, int]

    @property
    def prefix(self) -> int:
        """Number of tokens that the bare model puts before its patches."""
        return self.cls + self.registers

    @property
    def patches(self) -> int:
        """Number of patch tokens."""
        return self.grid[0] * self.grid[1]

    @property
    def length(self) -> int:
        """Number of tokens in the whole sequence."""
        return self.prefix + self.test_time + self.patches

    def where(self, group: Group) -> slice:
        """Return the slice of ``group`` along the token axis.

        ``prefix`` is CLS and the trained registers, ``all_registers`` the trained and the test-time ones,
        ``ahead`` all that stands before the patches.
        Raises KeyError for a group that does not exist.
        """
        bounds = {
            "cls": (0, self.cls),
            "registers": (self.cls, self.prefix),
            "prefix": (0, self.prefix),
            "test_time": (self.prefix, self.prefix + self.test_time),
            "all_registers": (self.cls, self.prefix + self.test_time),
            "ahead": (0, self.prefix + self.test_time),
            "patches": (self.prefix + self.test_time, self.length),
        }
        return slice(*bounds[group])

    def select(self, x: Tensor, group: Group, dim: int = 1) -> Tensor:
        """Return the tokens of ``group`` from ``x`` along axis ``dim`` (a view)."""
        part = self.where(group)
        return x.narrow(dim, part.start, part.stop - part.start)

    def with_cls(self, x: Tensor, cls: Tensor) -> Tensor:
        """Return a copy of ``x`` [B, N, D] whose CLS token is ``cls`` [B, D]."""
        changed = x.clone()
        self.select(changed, "cls")[:, 0] = cls
        return changed

    def split(self, x: Tensor) -> Tokens:
        """Split ``x`` [B, N, D] into its named parts."""
        if x.shape[1] != self.length:
            raise ModelError(f"got {x.shape[1]} tokens, but this layout has {self.length}: {self}")
        return Tokens(
            cls=self.select(x, "cls")[:, 0] if self.cls else None,
            registers=self.select(x, "registers"),
            test_time=self.select(x, "test_time"),
            patches=self.select(x, "patches"),
            grid=self.grid,
        )

    def to_grid(self, patches: Tensor, dim: int = 1) -> Tensor:
        """Reshape the patch axis ``dim`` of ``patches`` into (rows, columns)."""
        return patches.unflatten(dim, self.grid)

    def with_test_time(self, count: int) -> TokenLayout:
        """Return this layout with ``count`` test-time registers."""
        return replace(self, test_time=count)

    def without_patches(self) -> TokenLayout:
        """Return this layout of the tokens ahead of the patches alone."""
        return replace(self, grid=(0, 0))

    def for_length(self, length: int) -> TokenLayout:
        """Return this layout with as many test-time registers as a sequence of ``length`` must hold.

        Raises:
            ModelError: the sequence is shorter than the prefix and the patches alone.
        """
        extra = length - self.prefix - self.patches
        if extra < 0:
            raise ModelError(
                f"a sequence of {length} tokens cannot hold {self.prefix} prefix tokens and "
                f"{self.grid[0]}x{self.grid[1]} patches; was the image size changed, or are patches "
                "dropped or merged on the way?"
            )
        return self.with_test_time(extra)

    def insert_test_time(self, x: Tensor, registers: Tensor | None = None) -> Tensor:
        """Insert ``registers`` [B or 1, R, D], or zeros, behind the prefix of a bare [B, prefix+P, D]."""
        import torch

        if registers is None:
            registers = x.new_zeros(1, self.test_time, x.shape[2])
        registers = registers.expand(x.shape[0], -1, -1)
        return torch.cat([x[:, : self.prefix], registers, x[:, self.prefix :]], dim=1)

    def drop_test_time(self, x: Tensor, dim: int = 1) -> Tensor:
        """Undo :meth:`insert_test_time` along axis ``dim`` of length prefix+R+P."""
        import torch

        behind = self.prefix + self.test_time
        parts = x.narrow(dim, 0, self.prefix), x.narrow(dim, behind, x.shape[dim] - behind)
        return torch.cat(parts, dim)

    def set_aside(self, x: Tensor, whose: str) -> Tensor:
        """Return the bare sequence of ``x`` [B, prefix+R+P, D]; it carries the R registers beside it.

        ``whose``: the name of the wrap that they belong to.
        """
        if not self.test_time:
            return x
        bare = self.drop_test_time(x)
        setattr(bare, ASIDE + whose, self.select(x, "test_time").clone())
        return bare


def aside(x: Tensor, whose: str) -> Tensor | None:
    """Return the registers that :meth:`TokenLayout.set_aside` left beside this very tensor, or None."""
    return getattr(x, ASIDE + whose, None)


@dataclass(frozen=True)
class Tokens:
    """The tokens of a batch by name.

    Attributes:
        cls: [B, D], or None where the model has no CLS token.
        registers: trained registers, [B, T, D].
        test_time: test-time registers, [B, R, D].
        patches: [B, P, D], row by row of ``grid``.
        grid: (rows, columns).
    """

    cls: Tensor | None
    registers: Tensor
    test_time: Tensor
    patches: Tensor
    grid: tuple[int, int]

    def pooled(self, pooling: Literal["cls", "patches"]) -> Tensor:
        """Return CLS, or the mean of the patches (taken in float32 at least), [B, D].

        Raises:
            ModelError: there is no CLS.
        """
        import torch

        if pooling == "patches":
            wide = torch.promote_types(self.patches.dtype, torch.float32)
            return self.patches.mean(dim=1, dtype=wide).to(self.patches.dtype)
        if self.cls is None:
            raise ModelError("these tokens hold no CLS; choose pooling='own' or 'patches'")
        return self.cls
