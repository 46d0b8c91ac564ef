"""What is measured of a batch under each condition: small arrays, one row an image, and nothing else kept.

    tasks       embedding [D], pck, nearest, confusion [C, C]; where tokens are other images', donor_class and
                donor_group: in which share of the blocks the donor was of the image's class, of its group
    analyses    in their stead flows [L, 3, 3], shares [L, 3, S], divergence and divergence_of_mean [L, 3]
                of the attention; patch_cosine (to the full condition), effective_rank in three readings; of
                the full condition also register_cosines [S, S] and, at some blocks, layer_tokens
                [L', 1 + S, D], layer_pck, layer_nearest [L'], layer_confusion [L', C, C]
    training    embedding, donor_class and donor_group; of the full condition also layer_tokens, and a sample
                of patches with the class of their mask: patch_x [q, L', D], patch_y [q]

S counts the registers, trained ones first; L' the blocks that are looked into. Tokens of a block are read
behind the final norm, so that the last one's are the tasks' own. Patches that a condition replaced are not
scored: they hold nothing by construction, and the question is what became of the others.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ttr.datasets.registry import IGNORE, Item, Masks
from ttr.evaluate.correspondence import matches, patch_at
from ttr.evaluate.heads import LinearHead
from ttr.evaluate.masks import mask_as_seen
from ttr.evaluate.segmentation import confusions, patch_targets, sample_patches
from ttr.evaluate.warps import warped_pair
from ttr.studies.ablate.attention_measures import Arrays, AttentionMeasures, as_numpy
from ttr.studies.ablate.conditions import FULL, Condition
from ttr.studies.ablate.donors import Case, case_of, kinship
from ttr.studies.ablate.subject import Batch, Passed, Subject, normed
from ttr.tokens import Tokens


@dataclass(frozen=True, eq=False)
class Pairs:
    """A batch beside its counterparts, and points that correspond; see :mod:`ttr.evaluate.warps`.

    Attributes:
        images: the counterparts, [B, 3, H, W].
        source: points in the batch, [B, K, 2], (x, y) in pixels of the model's input.
        target: the same in the counterparts.
        valid: bool [B, K].
        extent: (width, height) of each target's box, [B, 2], or None: the image.
        candidates: patches of the counterparts that show any of the image, bool [B, P], or None: all.
    """

    images: Tensor
    source: np.ndarray
    target: np.ndarray
    valid: np.ndarray
    extent: np.ndarray | None = None
    candidates: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Measures:
    """What to measure, and with what.

    Attributes:
        subject: the model under study.
        tasks: of probe, knn, oneshot, correspondence, segmentation.
        masks: for segmentation.
        heads: patch probe of each looked-into block, {block: head}; the last block's is the task's.
        blocks: what layer-wise measures look into; empty: nothing.
        statistics: whether attention, geometry and layers are measured, and not the tasks.
        patches: sampled a training image.
    """

    subject: Subject
    tasks: frozenset[str] = frozenset()
    masks: Masks | None = None
    heads: dict[int, LinearHead] = field(default_factory=dict)
    blocks: tuple[int, ...] = ()
    statistics: bool = False
    patches: int = 0

    def training(
        self, items: Sequence[Item], images: Tensor, conditions: Sequence[Condition]
    ) -> Iterator[Arrays]:
        """Yield the arrays of a batch of training images under each condition, in order."""
        cases = [case_of(item) for item in items]
        batch = self.subject.batch(images, items[0].draw_name, conditions, cases=cases, keep=self.blocks)
        for condition in conditions:
            passed = batch.under(condition)
            found = {"embedding": as_numpy(passed.embedding)} | self._kinship(condition, passed, cases)
            if condition == FULL and self.blocks:
                layers = self._layers(passed)
                found["layer_tokens"] = _layer_tokens(layers)
                if self.patches:
                    found |= self._patch_sample(items, layers)
            yield found

    def test(
        self,
        items: Sequence[Item],
        images: Tensor,
        conditions: Sequence[Condition],
        pairs: Pairs | None = None,
    ) -> Iterator[Arrays]:
        """Yield the arrays of a batch of test images under each condition, in order.

        ``pairs``: what correspondence is measured on; None: a warp of each image.
        """
        correspond, segment = "correspondence" in self.tasks, "segmentation" in self.tasks
        attention = AttentionMeasures(self.subject) if self.statistics else None
        see_full, see = (attention.see_full, attention.see) if attention is not None else (None, None)
        cases = [case_of(item) for item in items]
        batch = self.subject.batch(
            images, items[0].draw_name, conditions, cases=cases, keep=self.blocks, attention=see_full
        )
        pairs = pairs or (self._warps(items, images) if correspond else None)
        other = None
        if pairs is not None:
            other = self.subject.batch(
                pairs.images, f"{items[0].draw_name} pair", conditions, cases=cases, keep=self.blocks
            )
        truth = self._truth(items, images) if segment else None
        for condition in conditions:
            passed = batch.under(condition, see)
            found = self._kinship(condition, passed, cases)
            if attention is not None:
                found |= attention.arrays(condition, batch, passed)
                if condition == FULL:
                    found |= self._layer_wise(batch, other, pairs, truth)
            else:
                found["embedding"] = as_numpy(passed.embedding)
                if other is not None and pairs is not None:
                    found |= self._matches(passed, other.under(condition), pairs)
                if truth is not None:
                    found["confusion"] = self._confusion(passed, passed.tokens.patches, truth, -1)
            yield found

    def _kinship(self, condition: Condition, passed: Passed, cases: Sequence[Case]) -> Arrays:
        """Return who the donors were, where they are known."""
        givers = self.subject.bank if condition.substitute == "resample" else cases
        if passed.donors is None or not givers:
            return {}
        of_class, of_group = kinship(cases, givers, passed.donors)
        return {"donor_class": of_class, "donor_group": of_group}

    def _layers(self, passed: Passed) -> list[Tokens]:
        outputs = (passed.outputs[block] for block in self.blocks)
        return [normed(self.subject.backbone, x, passed.layout) for x in outputs]

    def _layer_wise(
        self, batch: Batch, other: Batch | None, pairs: Pairs | None, truth: np.ndarray | None
    ) -> Arrays:
        layers = self._layers(batch.full)
        found = {"layer_tokens": _layer_tokens(layers)}
        if other is not None and pairs is not None:
            counterparts = self._layers(other.full)
            scores = [
                self._score(batch.full, own.patches, there.patches, pairs, pairs.valid)
                for own, there in zip(layers, counterparts, strict=True)
            ]
            for index, name in enumerate(("layer_pck", "layer_nearest")):
                found[name] = np.stack([score[index] for score in scores], axis=1)
        if truth is not None:
            parts = [
                self._confusion(batch.full, tokens.patches, truth, block)
                for block, tokens in zip(self.blocks, layers, strict=True)
            ]
            found["layer_confusion"] = np.stack(parts, axis=1)
        return found

    def _warps(self, items: Sequence[Item], images: Tensor) -> Pairs:
        backbone = self.subject.backbone
        seeds = [zlib.crc32(f"{self.subject.seed} {item.draw_name}".encode()) for item in items]
        known = backbone.normalisation
        black = torch.zeros(3) if known is None else -known[0] / known[1]
        pair = warped_pair(images, seeds=seeds, fill=black, patch_size=backbone.patch_size)
        return Pairs(pair.warped, pair.source, pair.target, pair.valid)

    def _matches(self, passed: Passed, counterpart: Passed, pairs: Pairs) -> Arrays:
        valid = pairs.valid
        size = np.array(self.subject.backbone.patch_size[::-1], dtype=np.float64)
        for run, points in ((passed, pairs.source), (counterpart, pairs.target)):
            if run.replaced is not None:
                lost = run.replaced.numpy()
                valid = valid & ~np.take_along_axis(lost, patch_at(points, size, run.layout.grid), axis=1)
        pck, nearest = self._score(passed, passed.tokens.patches, counterpart.tokens.patches, pairs, valid)
        return {"pck": pck, "nearest": nearest}

    def _score(
        self, passed: Passed, own: Tensor, there: Tensor, pairs: Pairs, valid: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        size = (int(pairs.images.shape[-2]), int(pairs.images.shape[-1]))
        return matches(
            own,
            there,
            pairs.source,
            pairs.target,
            valid,
            grid=passed.layout.grid,
            image_size=size,
            extent=pairs.extent,
            candidates=pairs.candidates,
        )

    def _truth(self, items: Sequence[Item], images: Tensor) -> np.ndarray:
        """Return each image's mask as the model sees it, int64 [B, h, w]; all 255 where there is none."""
        assert self.masks is not None
        nothing = np.full(images.shape[-2:], IGNORE, dtype=np.int64)
        return np.stack(
            [
                mask_as_seen(self.subject.backbone, self.masks.open(item))
                if self.masks.covers(item)
                else nothing
                for item in items
            ]
        )

    def _confusion(self, passed: Passed, patches: Tensor, truth: np.ndarray, block: int) -> np.ndarray:
        head = self.heads[self.blocks[-1] if block < 0 else block]
        grid = passed.layout.grid
        if passed.replaced is not None:
            # Logits are interpolated: a pixel is scored if no replaced patch has a part in its logits.
            lost = passed.replaced.unflatten(1, grid)[:, None].float()
            part = interpolate(lost, size=truth.shape[1:], mode="bilinear", align_corners=False)[:, 0]
            truth = np.where(part.numpy() > 0, IGNORE, truth)
        return confusions(head, patches, grid, truth)

    def _patch_sample(self, items: Sequence[Item], layers: list[Tokens]) -> Arrays:
        """Return q patches an image at every looked-into block, the same ones, and their classes."""
        side_by_side = torch.cat([tokens.patches for tokens in layers], dim=2)
        count, width = len(layers), layers[0].patches.shape[2]
        x = np.zeros((len(items), self.patches, count, width), dtype=np.float32)
        y = np.full((len(items), self.patches), IGNORE, dtype=np.int64)
        shape = torch.empty(len(items), 0, *self.subject.backbone.image_size)
        targets = patch_targets(self._truth(items, shape), layers[0].grid)
        for index, item in enumerate(items):
            random = np.random.default_rng([self.subject.seed, zlib.crc32(item.draw_name.encode())])
            part = slice(index, index + 1)
            chosen, classes = sample_patches(side_by_side[part], targets[part], self.patches, random)
            x[index, : len(classes)] = chosen.reshape(-1, count, width)
            y[index, : len(classes)] = classes
        return {"patch_x": x, "patch_y": y}


def _layer_tokens(layers: Sequence[Tokens]) -> np.ndarray:
    """Return CLS (where there is one) and the registers at each block, float32 [B, L', T, D]."""
    rows = []
    for tokens in layers:
        cls = [] if tokens.cls is None else [tokens.cls[:, None]]
        rows.append(torch.cat([*cls, tokens.registers, tokens.test_time], dim=1))
    return as_numpy(torch.stack(rows, dim=1))
