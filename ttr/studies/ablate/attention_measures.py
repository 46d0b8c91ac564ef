"""Attention and geometry of one batch, in full and under each condition beside it.

The full pass leaves every block's attention input, O(L x B x N x D); maps are made of it again, a few rows at
a time, whenever a condition is compared with it (:mod:`ttr.analysis.routing`). Blocks before a condition's
first replaced one are the full pass's, bit for bit, and are not looked at again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ttr.analysis.geometry import effective_ranks, patch_cosine
from ttr.analysis.routing import attention_statistics
from ttr.analysis.specialisation import register_cosines
from ttr.studies.ablate.conditions import FULL, Condition
from ttr.studies.ablate.subject import Batch, Passed, Subject

#: Small arrays by name, one row an image.
Arrays = dict[str, np.ndarray]


class AttentionMeasures:
    """Attention statistics of one batch: those of the full pass, and of each condition beside them."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.inputs: dict[int, tuple[Tensor, Any]] = {}
        self.seen: dict[int, tuple[Tensor, Any]] = {}
        self.full: dict[str, np.ndarray] = {}

    def see_full(self, block: int, x: Tensor, kwargs: Any) -> None:
        """Keep a block's attention input of the full pass."""
        self.inputs[block] = (x, kwargs)

    def see(self, block: int, x: Tensor, kwargs: Any) -> None:
        """Keep a block's attention input of the condition that runs."""
        self.seen[block] = (x, kwargs)

    def arrays(self, condition: Condition, batch: Batch, passed: Passed) -> Arrays:
        """Return the arrays of the condition that has run; ``full`` comes first."""
        seen, self.seen = (self.inputs, {}) if condition == FULL else (self.seen, {})
        patches = passed.tokens.patches
        found = {
            "patch_cosine": as_numpy(patch_cosine(patches, batch.full.tokens.patches).mean(dim=1)),
            **{name: rank.cpu().numpy() for name, rank in effective_ranks(patches).items()},
        }
        if condition == FULL:
            registers = torch.cat([passed.tokens.registers, passed.tokens.test_time], dim=1)
            found["register_cosines"] = as_numpy(register_cosines(registers))
        own, parts = passed.layout, []
        for block in sorted(seen):
            reference = None if condition == FULL else (*self.inputs[block], batch.full.layout)
            parts.append(
                (block, attention_statistics(self.subject.backbone, block, *seen[block], own, reference))
            )
        if condition == FULL:
            self.full = {
                "flows": np.stack([as_numpy(part.flows) for _, part in parts], axis=1),
                "shares": np.stack([as_numpy(part.shares) for _, part in parts], axis=1),
            }
            nothing = 0 * self.full["flows"].sum(axis=3)
            self.full |= {"divergence": nothing, "divergence_of_mean": nothing}
            return found | self.full
        # Blocks before the first replaced one are the full pass's, bit for bit.
        arrays = {name: value.copy() for name, value in self.full.items()}
        for block, part in parts:
            if part.shares.shape[2] != arrays["shares"].shape[3]:
                arrays["shares"] = np.full((*arrays["shares"].shape[:3], part.shares.shape[2]), np.nan)
            assert part.divergence is not None
            assert part.divergence_of_mean is not None
            arrays["flows"][:, block] = as_numpy(part.flows)
            arrays["shares"][:, block] = as_numpy(part.shares)
            arrays["divergence"][:, block] = as_numpy(part.divergence)
            arrays["divergence_of_mean"][:, block] = as_numpy(part.divergence_of_mean)
        return found | arrays


def as_numpy(x: Tensor) -> np.ndarray:
    """Return a tensor as a float32 array of its own."""
    return x.float().cpu().contiguous().numpy()
