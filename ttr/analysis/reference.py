"""What an image's feature is compared with: those of other images, whole and made of their patches alone.

A cosine of two features counts what all images have in common, a bias of the final norm for one: it may come
out near 1 where no image is in it, and near 0 where one side lacks it. So both sides are centred on their
mean over a *reference*, some images of the same kind; and beside the cosine stands its null, what other
images' patches reach in the place of this one's:

    centred   cos(p - mean p_j, f - mean f_j)        p: made of the patches alone, f: the whole, j: others
    null      mean over j of cos(p_j, f)
    own       share of the j with cos(p_j - mean, f - mean) < cos(p - mean, f - mean)

Best are images of the set at hand. Where none are given, six drawn textures and the two bundled photographs
stand in: they take away what is in no image, and not what a whole speciality has in common. An image whose
feature is this one's (itself, or its double) is no other image and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ttr.analysis.integration import full_output, restricted
from ttr.backbones.base import Backbone
from ttr.datasets.registry import open_image, phantom_images, sample_paths
from ttr.errors import TTRError
from ttr.forward.batches import batches
from ttr.forward.blocks import watch
from ttr.forward.record import record

DRAWN, DRAWN_SEED = 6, 77_001
#: Relative distance of two features below which they are of one picture, bfloat16's rounding included.
DOUBLE = 0.02
BATCH = 4
TILE = 512


@dataclass(frozen=True, eq=False)
class Reference:
    """Features of other images, through the same model. Make one with :func:`refer`.

    Attributes:
        full: float32 [M, E], as the model gives them out.
        patches: the same made of their patches alone, [M, E].
    """

    full: Tensor
    patches: Tensor

    def compared(self, patches: Tensor, full: Tensor) -> dict[str, Tensor]:
        """Return centred, null and own of some images, float32 [B] each; see the module.

        NaN where the reference holds no other image.

        Args:
            patches: features made of the patches alone, [B, E].
            full: the whole ones, [B, E].
        """
        found = [self._one(p, f) for p, f in zip(patches.float(), full.float(), strict=True)]
        return {name: torch.tensor([each[name] for each in found]) for name in ("centred", "null", "own")}

    def _one(self, patches: Tensor, full: Tensor) -> dict[str, float]:
        others = (self.full - full).norm(dim=1) > DOUBLE * full.norm()
        if int(others.sum()) < 2:
            return dict.fromkeys(("centred", "null", "own"), float("nan"))
        theirs, whole = self.patches[others], self.full[others]
        p, f, j = patches - theirs.mean(dim=0), full - whole.mean(dim=0), theirs - theirs.mean(dim=0)
        centred = F.cosine_similarity(p, f, dim=0)
        return {
            "centred": float(centred),
            "null": float(F.cosine_similarity(theirs, full[None]).mean()),
            "own": float((F.cosine_similarity(j, f[None]) < centred).float().mean()),
        }


def among(
    patches: np.ndarray, full: np.ndarray, groups: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Return centred, null and own of the images of a set, each with those of other groups as its others.

    All are centred on the mean of the set: for an image and the mean of all others that is one direction.

    Args:
        patches: features made of the patches alone, float [n, E].
        full: the whole ones, [n, E].
        groups: of the images, n; None: each is a group of its own.

    Returns:
        float64 [n] each; NaN where there are fewer than three images, or none of another group.
    """
    count = len(full)
    if count < 3:
        return {name: np.full(count, np.nan) for name in ("centred", "null", "own")}
    member = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
    p, f = (_unit(np.asarray(x, dtype=np.float64)) for x in (patches, full))
    p_own, f_own = (
        _unit(np.asarray(x, dtype=np.float64) - np.mean(x, axis=0, dtype=np.float64)) for x in (patches, full)
    )
    centred = (p_own * f_own).sum(axis=1)
    null, own = np.full((2, count), np.nan)
    for start in range(0, count, TILE):
        rows = slice(start, start + TILE)
        others = member[rows, None] != member
        there = others.sum(axis=1)
        fewer = others & (f_own[rows] @ p_own.T < centred[rows, None])
        with np.errstate(invalid="ignore", divide="ignore"):
            null[rows] = ((f[rows] @ p.T) * others).sum(axis=1) / there
            own[rows] = fewer.sum(axis=1) / there
    return {"centred": centred, "null": null, "own": own}


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True).clip(min=np.finfo(np.float64).tiny)


@torch.no_grad()
def refer(backbone: Backbone, images: Any = None) -> Reference | None:
    """Return the reference of a model as it stands, a wrap included.

    Args:
        backbone: with CLS.
        images: what :func:`ttr.forward.batches.batches` takes; None: those of the module.

    Returns:
        None where no images were given and the model came without a preprocessing that fits it.
    """
    if images is None:
        images = list(_stand_ins())
        if backbone.channels != 3 or not _can_be_made(backbone, images[0]):
            return None
    last = backbone.num_layers - 1
    full, patches = [], []
    for batch in batches(backbone, images, BATCH):
        with watch(backbone, last) as seen:
            layout = record(backbone, batch).layout
        full.append(full_output(backbone, layout, seen).cpu())
        patches.append(restricted(backbone, layout, last, seen, parts=["patches"])["patches"].cpu())
    return Reference(torch.cat(full), torch.cat(patches)) if full else None


def _can_be_made(backbone: Backbone, image: Any) -> bool:
    try:
        backbone.check_batch(backbone.preprocess(image)[None])
    except TTRError:
        return False
    return True


@cache
def _stand_ins() -> tuple[Any, ...]:
    drawn = phantom_images(DRAWN, seed=DRAWN_SEED, classes=DRAWN)
    return (*(picture.image for picture in drawn), *map(open_image, sample_paths().values()))
