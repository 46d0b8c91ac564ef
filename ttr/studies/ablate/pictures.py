"""What people look at: a few images under every condition, on scales and colours that all of them share.

Norm maps, attention maps (CLS and every register as query, last block, mean of the heads) and patch colours
on one basis, as plain arrays: a page or an application colours and enlarges them. And the gallery: for each
register the patches, among the analysed images, that it resembles most: the register of the patch's own
image, and the register's mean over all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ttr.analysis.patch_colours import fit_colours
from ttr.analysis.routing import unrotated
from ttr.analysis.specialisation import NearestPatches, NearPatch
from ttr.datasets.registry import Item
from ttr.forward.attention import attention_rows
from ttr.forward.preprocessing import pixels_of
from ttr.norms import token_norms
from ttr.progress import progress_bar
from ttr.studies.ablate.conditions import FULL
from ttr.studies.ablate.donors import case_of, drawn_order, enough
from ttr.studies.ablate.experiment import Measured
from ttr.studies.ablate.subject import Passed

SHOWN = 6
NEAREST = 8
#: Of each register, its patches.
Gallery = tuple[tuple[NearPatch, ...], ...]


@dataclass(frozen=True, eq=False)
class Pictures:
    """Arrays for a page; C conditions, I images, Q queries (CLS, then registers), a grid of r x c patches.

    Attributes:
        images: I names.
        pixels: what the model was given, uint8 [I, H, W, 3].
        norms: patch norms at the last block, float32 [C, I, r, c].
        attention: of each query, float32 [C, I, Q, r, c], 0..1; NaN for a query that a condition lacks.
        colours: principal components of the patches, uint8 [C, I, r, c, 3].
        nearest: of each register as it is in the patch's own image, nearest first.
        crops: their pixels, uint8 [S, NEAREST, h, w, 3]; black where there are fewer.
        nearest_mean: the same of each register's mean over the images.
        crops_mean: their pixels.
    """

    images: tuple[str, ...]
    pixels: np.ndarray = field(repr=False)
    norms: np.ndarray = field(repr=False)
    attention: np.ndarray = field(repr=False)
    colours: np.ndarray = field(repr=False)
    nearest: Gallery = field(repr=False)
    crops: np.ndarray = field(repr=False)
    nearest_mean: Gallery = field(repr=False)
    crops_mean: np.ndarray = field(repr=False)


@torch.no_grad()
def pictures(measured: Measured, *, shown: int = SHOWN) -> Pictures:
    """Return the pictures of ``shown`` analysed images, drawn by the seed, and the gallery over all of them.

    Raises:
        ImageError: an image cannot be read any more.
    """
    assert measured.analysed is not None
    analysed, rule = measured.analysed.items, measured.settings.donors
    drawn = [analysed[place] for place in drawn_order(analysed, measured.run.seed, rule, strict=False)]
    # Where the shown ones are all one patient's, others come along, whose tokens they can take.
    items, along = tuple(drawn[:shown]), tuple(drawn[: enough(drawn, min(shown, len(drawn)), rule)])
    batch, count = _inputs(measured, along), len(items)
    norms, attention, patches = [], [], []
    last: dict[str, tuple[Tensor, Any]] = {}
    final = measured.subject.backbone.num_layers - 1

    def see(block: int, x: Tensor, kwargs: Mapping[str, Any]) -> None:
        if block == final:
            last["input"] = (x, kwargs)

    cases = [case_of(item) for item in along]
    whole = measured.subject.batch(batch, "pictures", measured.conditions, cases=cases, attention=see)
    in_full = last["input"]
    for condition in measured.conditions:
        last["input"] = in_full
        passed = whole.under(condition, see)
        layout = passed.layout
        grid = layout.grid
        norms.append(layout.to_grid(layout.select(token_norms(passed.last), "patches"))[:count].cpu().numpy())
        attention.append(_attention(measured, passed, *last["input"])[:count])
        patches.append(passed.tokens.patches[:count].float().cpu().numpy())
    colours = fit_colours(np.concatenate(patches).reshape(-1, patches[0].shape[-1]))
    painted = [[colours.paint(image, grid) for image in each] for each in patches]
    nearest, nearest_mean = _nearest(measured)
    return Pictures(
        images=tuple(item.name for item in items),
        pixels=pixels_of(measured.subject.backbone, batch[:count]),
        norms=np.stack(norms),
        attention=np.stack(attention),
        colours=np.array(painted, dtype=np.uint8),
        nearest=nearest,
        crops=_crops(measured, nearest),
        nearest_mean=nearest_mean,
        crops_mean=_crops(measured, nearest_mean),
    )


def _inputs(measured: Measured, items: tuple[Item, ...]) -> Tensor:
    backbone = measured.subject.backbone
    return torch.stack([backbone.preprocess(measured.dataset.open(item)) for item in items])


def _attention(measured: Measured, passed: Passed, x: Tensor, kwargs: Mapping[str, Any]) -> np.ndarray:
    """Return [I, Q, r, c] with as many queries as the full condition has."""
    backbone, layout, full = measured.subject.backbone, passed.layout, measured.subject.layout
    module = backbone.sites.attention[-1].module
    queries = slice(0, layout.prefix + layout.test_time)
    with unrotated(backbone, module, layout):
        rows = attention_rows(backbone, module, x, kwargs, queries).mean(dim=1)
    maps = layout.to_grid(layout.select(rows, "patches", dim=2), dim=2).cpu().numpy()
    lacking = full.prefix + full.test_time - maps.shape[1]
    return np.pad(maps, ((0, 0), (0, lacking), (0, 0), (0, 0)), constant_values=np.nan)


def _nearest(measured: Measured) -> tuple[Gallery, Gallery]:
    """Return the galleries of each image's own registers and of their mean."""
    assert measured.analysed is not None
    layout = measured.subject.layout
    if not layout.registers + layout.test_time:
        return (), ()
    own, of_mean = NearestPatches(NEAREST), NearestPatches(NEAREST)
    # The last looked-into block is the model's last, and its tokens are read behind the final norm.
    last = measured.analysed.arrays[FULL.name]["layer_tokens"][:, -1, int(layout.cls) :]
    mean = torch.from_numpy(last.mean(axis=0))
    items, size = measured.analysed.items, measured.run.batch_size
    with progress_bar("gallery", len(items), show=measured.run.progress) as advance:
        for start in range(0, len(items), size):
            part = items[start : start + size]
            passed = measured.subject.batch(_inputs(measured, part), "gallery", ()).full
            registers = torch.cat([passed.tokens.registers, passed.tokens.test_time], dim=1)
            names, units = ([getattr(item, what) for item in part] for what in ("name", "unit"))
            means = mean.to(registers).expand_as(registers)
            for found, queries in ((own, registers), (of_mean, means)):
                found.add(names, queries, passed.tokens.patches, passed.layout.grid, groups=units)
            advance(len(part))
    return own.gallery(), of_mean.gallery()


def _crops(measured: Measured, nearest: Gallery) -> np.ndarray:
    """Return the pixels of each patch and a margin of one patch around it."""
    assert measured.analysed is not None
    backbone = measured.subject.backbone
    high, wide = backbone.patch_size
    crops = np.zeros((len(nearest), NEAREST, 3 * high, 3 * wide, 3), dtype=np.uint8)
    by_name = {item.name: item for item in measured.analysed.items}
    for register, patches in enumerate(nearest):
        for place, patch in enumerate(patches):
            pixels = pixels_of(backbone, _inputs(measured, (by_name[patch.image],)))[0]
            padded = np.pad(pixels, ((high, high), (wide, wide), (0, 0)))
            top, left = patch.row * high, patch.column * wide
            crops[register, place] = padded[top : top + 3 * high, left : left + 3 * wide]
    return crops
