"""One image through one model, as the numbers and maps of the published figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from ttr.analysis.faithfulness import Trust, grade
from ttr.forward.record import Record


@dataclass(frozen=True)
class Curves:
    """One number a block, in order; None where there are no registers.

    ``max_patch_norm``, ``median_patch_norm``: L2 norms of the patches at the block's output.
    ``max_patch_attention``: largest attention of the CLS query to a patch, mean of the heads, 0..1.
    ``register_attention``: attention of CLS to all registers together, 0..1.
    ``register_norm``: largest norm of a register, trained or test-time.
    """

    max_patch_norm: tuple[float, ...]
    median_patch_norm: tuple[float, ...]
    max_patch_attention: tuple[float, ...]
    register_attention: tuple[float, ...]
    register_norm: tuple[float, ...] | None


@dataclass(frozen=True)
class Maps:
    """Arrays of one run at the last block, float32; not part of the JSON.

    ``norms``, ``attention``: [rows, columns] of the patch grid. ``register_norms``,
    ``register_attention``: [T + R], trained registers first.
    """

    norms: np.ndarray
    attention: np.ndarray
    register_norms: np.ndarray
    register_attention: np.ndarray


@dataclass(frozen=True)
class View:
    """One image through one model: numbers at the last block, curves over all, and the maps.

    Attributes:
        max_patch_norm: largest patch norm at the last block's output.
        median_patch_norm: median patch norm there.
        outlier_patches: patches above the threshold at the outlier layer.
        max_patch_attention: largest CLS attention to a patch, mean of the heads, last block, 0..1.
        register_attention: CLS attention to all registers together, last block, 0..1 (0 without any).
        register_norm: largest register norm at the last block, None without registers.
        trust: whether the map shows where the feature comes from (:mod:`ttr.analysis.faithfulness`).
        curves: the same at every block.
        maps: the arrays behind the pictures.
    """

    max_patch_norm: float
    median_patch_norm: float
    outlier_patches: int
    max_patch_attention: float
    register_attention: float
    register_norm: float | None
    trust: Trust
    curves: Curves
    maps: Maps = field(repr=False, compare=False)

    @property
    def faithfulness(self) -> float:
        """The amount of the trust, -1..1."""
        return self.trust.amount

    def to_json(self) -> dict[str, Any]:
        """Return the numbers and curves as plain JSON values."""
        names = (
            "max_patch_norm",
            "median_patch_norm",
            "outlier_patches",
            "max_patch_attention",
            "register_attention",
            "register_norm",
            "faithfulness",
        )
        return {
            **{name: getattr(self, name) for name in names},
            "faithfulness_grade": grade(self.trust),
            "faithfulness_checks": self.trust.to_json(),
            "curves": vars(self.curves),
        }


def view_of(passed: Record, trusts: Sequence[Trust], item: int, layer: int, limit: float) -> View:
    """Return image ``item`` of a recorded pass, its outliers counted above ``limit`` at block ``layer``.

    ``trusts`` are those of every image of the pass. The record is on the host.
    """
    layout = passed.layout
    norms = passed.norms[:, item]
    attention = passed.cls_attention[:, item].mean(dim=1)
    patch_norms, patch_attention = (layout.select(x, "patches") for x in (norms, attention))
    registers = slice(layout.cls, layout.prefix + layout.test_time)
    register_norms, register_attention = norms[:, registers], attention[:, registers]
    has_registers = register_norms.shape[1] > 0
    curves = Curves(
        max_patch_norm=_floats(patch_norms.amax(dim=1)),
        median_patch_norm=_floats(patch_norms.median(dim=1).values),
        max_patch_attention=_floats(patch_attention.amax(dim=1)),
        register_attention=_floats(register_attention.sum(dim=1)),
        register_norm=_floats(register_norms.amax(dim=1)) if has_registers else None,
    )
    return View(
        max_patch_norm=curves.max_patch_norm[-1],
        median_patch_norm=curves.median_patch_norm[-1],
        outlier_patches=int((patch_norms[layer] > limit).sum()),
        max_patch_attention=curves.max_patch_attention[-1],
        register_attention=curves.register_attention[-1],
        register_norm=curves.register_norm[-1] if curves.register_norm else None,
        trust=trusts[item],
        curves=curves,
        maps=Maps(
            norms=layout.to_grid(patch_norms[-1], dim=0).numpy(),
            attention=layout.to_grid(patch_attention[-1], dim=0).numpy(),
            register_norms=register_norms[-1].numpy(),
            register_attention=register_attention[-1].numpy(),
        ),
    )


def _floats(values: Tensor) -> tuple[float, ...]:
    return tuple(values.tolist())
