"""What CLS attends to and what it finds there, as tables: each image's shares, the strongest token, its size.

``shares.csv``, a row an image of a model with registers, at each measured block: backbone, block,
num_registers, image, patches, registers. The two are the attention of CLS, mean of the heads, divided by
their sum: CLS's attention to itself is left out, and they add up to one (Lappe and Giese 2025, figure 2a).

``registers.csv``, how alike a token is across images, before and after the norm of a block:

    backbone, block, num_registers, when (before | after the norm)
    cosine, ci_low, ci_high   mean over all pairs of images
    outlier_dimensions, named, outlier_share   how many, up to ten of them, their share of the squared length
    token         ``strongest register`` (each image's own, at each measured block); in the last block also
                  the register that is it most often, such as ``register-2`` or ``test-time``, in all images,
                  or, of a model without registers, ``strongest patch``
    strongest_in  in which share of the images that token has the largest norm of its group

``dimensions.csv``, the 100 largest dimensions of the last block's tokens (figure 2b): backbone,
num_registers, token, rank, dimension, before and after (mean |value| over images), signed_before and
signed_after (mean value), images. They are ordered by ``before``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ttr.analysis.register_content import alike, largest_dimensions, outlier_dimensions
from ttr.backbones.base import Backbone
from ttr.statistics.inference import resample_weights
from ttr.studies.integrate.parts import PartSamples

STRONGEST, PATCH = "strongest register", "strongest patch"
Groups = Sequence[str] | None


@dataclass(frozen=True, eq=False)
class Token:
    """One token across the images, at the input of a block.

    Attributes:
        num_registers: of the pass.
        block: whose input it is.
        name: as in the column ``token``.
        strongest_in: share of the images in which it has the largest norm of its group.
        before: float32 [images, D].
        after: the same after the norm.
    """

    num_registers: int
    block: int
    name: str
    strongest_in: float
    before: np.ndarray
    after: np.ndarray


def tokens_of(found: PartSamples, backbone: Backbone) -> Iterator[Token]:
    """Yield what was kept: each block's strongest register, and what stands beside it in the last one."""
    last = found.layers - 1
    for (registers, block, what), before in found.vectors.items():
        if what in ("before", "patch before"):
            name = STRONGEST if what == "before" else PATCH
            after = found.vectors[registers, block, what.replace("before", "after")]
            yield Token(registers, block, name, 1.0, before, after)
    for registers, tokens in found.registers.items():
        chosen = found.numbers[registers, last, "registers"]["strongest"].astype(int)
        counts = np.bincount(chosen)
        most = int(counts.argmax())
        name = f"register-{most + 1}" if most < backbone.layout.registers else "test-time"
        yield Token(registers, last, name, float(counts[most] / len(chosen)), *tokens[most])


def registers_table(
    found: PartSamples, backbone: Backbone, *, groups: Groups = None, seed: int = 42
) -> pd.DataFrame:
    """Return the rows of ``registers.csv``; see the module for the columns."""
    weights = resample_weights(found.images, groups=groups, seed=seed)
    rows = []
    for token in tokens_of(found, backbone):
        outliers = outlier_dimensions(token.before, token.after)
        named = " ".join(map(str, outliers.dimensions))
        shares = (outliers.share_before, outliers.share_after)
        both = (token.before, token.after)
        for when, vectors, share in zip(("before", "after"), both, shares, strict=True):
            same = alike(vectors, weights)
            place = (backbone.name, token.block, token.num_registers, when)
            measured = (same.cosine, same.interval.low, same.interval.high, outliers.count, named, share)
            rows.append((*place, *measured, token.name, token.strongest_in))
    columns = ["backbone", "block", "num_registers", "when", "cosine", "ci_low", "ci_high"]
    columns += ["outlier_dimensions", "named", "outlier_share", "token", "strongest_in"]
    return pd.DataFrame(rows, columns=columns)


def dimensions_table(found: PartSamples, backbone: Backbone) -> pd.DataFrame:
    """Return the rows of ``dimensions.csv``; see the module for the columns."""
    rows = []
    for token in tokens_of(found, backbone):
        if token.block == found.layers - 1:
            large = largest_dimensions(token.before, token.after)
            numbers = zip(
                *(large.dimensions, large.before, large.after, large.signed_before, large.signed_after),
                strict=True,
            )
            place = (backbone.name, token.num_registers, token.name)
            rows += [(*place, rank, *values, found.images) for rank, values in enumerate(numbers, start=1)]
    columns = ["backbone", "num_registers", "token", "rank", "dimension", "before", "after"]
    return pd.DataFrame(rows, columns=[*columns, "signed_before", "signed_after", "images"])


def shares_without_cls(found: PartSamples, registers: int, block: int) -> dict[str, np.ndarray]:
    """Return {patches, registers: share of their attention from CLS, [images]}; empty without registers."""
    parts = ("patches", "registers")
    if (registers, block, "registers") not in found.numbers:
        return {}
    both = {part: found.numbers[registers, block, part]["attention_share"] for part in parts}
    total = sum(both.values())
    return {part: share / total for part, share in both.items()}


def shares_table(found: PartSamples, backbone: Backbone, images: Sequence[str]) -> pd.DataFrame:
    """Return the rows of ``shares.csv``, ``images`` being their names; see the module for the columns."""
    columns = ["backbone", "block", "num_registers", "image", "patches", "registers"]
    tables = [
        pd.DataFrame(shares).assign(
            backbone=backbone.name, block=block, num_registers=registers, image=list(images)
        )
        for registers, block, part in found.numbers
        if part == "registers" and (shares := shares_without_cls(found, registers, block))
    ]
    return pd.concat(tables)[columns] if tables else pd.DataFrame(columns=columns)
