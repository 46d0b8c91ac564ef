"""One calibration by several processes, which share its images (:mod:`ttr.features.shared`).

Means and sums of squared deviations are float64 and are joined by the same exact update that adds a batch
(:mod:`ttr.forward.calibration`). The bank's sample is drawn image by image, by how many readable ones were
before: a stretch takes all before it to be readable, and of its own number of patches. Where the merge finds
that they were not, it measures that stretch once more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ttr.backbones.base import Backbone
from ttr.datasets.registry import OpenedImages
from ttr.features.shared import Content, Shared
from ttr.forward.calibration import BANK, Calibration, Moments, TokenMoments, measure
from ttr.progress import Advance
from ttr.registers.arms import Arm
from ttr.run import Run

GROUPS = ("alone", "patches")


class SharedCalibration(Shared[Calibration]):
    """The parts of one calibration, of a model under an arm."""

    label = "calibrating"

    def __init__(self, folder: Path, backbone: Backbone, images: OpenedImages, run: Run, arm: Arm) -> None:
        super().__init__(folder, backbone, images, run)
        self.arm = arm

    def made(self, index: int, advance: Advance) -> Content:
        """Return the moments of a stretch, and what it adds to the bank."""
        moments = self._none(self.stretches[index].start)
        skipped = self._measure(index, moments, advance)
        values = {
            "images": moments.images,
            "sizes": sorted(moments.sizes),
            "before": moments.before,
            "places": list(moments.kept),
            "banked": [moments.banked[place] for place in moments.kept],
            "counts": [getattr(moments, group)[0].count for group in GROUPS],
            "skipped": skipped,
        }
        tensors: dict[str, Any] = {}
        if moments.images:
            for group in GROUPS:
                for what in ("mean", "squares"):
                    each = [getattr(one, what) for one in getattr(moments, group)]
                    tensors[f"{group}.{what}"] = torch.stack(each).numpy()
        if moments.kept:
            tensors["bank"] = torch.stack(list(moments.kept.values())).numpy()
        return tensors, values

    def merged(self, skipped: dict[str, str]) -> Calibration:
        """Return the statistics of all images; see :meth:`ttr.features.shared.Shared.merged`."""
        moments = self._none(0)
        for index, part in self.parts(skipped):
            if not moments.join(self._told(part)):
                self._measure(index, moments, lambda done: None)
        return moments.calibration()

    def _none(self, before: int) -> TokenMoments:
        return TokenMoments(self.backbone.num_layers, BANK, self.run.seed, before)

    def _measure(self, index: int, moments: TokenMoments, advance: Advance) -> dict[str, str]:
        reading = self.reading(index)
        with self.arm.applied(self.backbone):
            measure(self.backbone, reading, moments, self.run.batch_size, advance)
        return reading.skipped

    def _told(self, part: Content) -> TokenMoments:
        tensors, values = part
        moments = self._none(values["before"])
        moments.images, moments.sizes = values["images"], set(values["sizes"])
        if moments.images:
            for group, count in zip(GROUPS, values["counts"], strict=True):
                mean, squares = (torch.from_numpy(tensors[f"{group}.{what}"]) for what in ("mean", "squares"))
                setattr(moments, group, [Moments(count, *each) for each in zip(mean, squares, strict=True)])
        bank = tensors.get("bank", np.empty(0))
        moments.kept = dict(zip(values["places"], map(torch.from_numpy, bank), strict=True))
        moments.banked = dict(zip(values["places"], values["banked"], strict=True))
        return moments
