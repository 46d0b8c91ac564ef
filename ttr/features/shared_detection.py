"""One detection by several processes, which share its images (:mod:`ttr.features.shared`).

The sums are exact but for the order in which float64 numbers are added. Two decisions go through all images,
though. Which of the sums one belongs to, of two halves or of as many as random halves are drawn among, is
said by how many were before it: the sums of a stretch are moved on by the number of images that it follows.
Whether an image is another one's double is said by the pictures before it (:mod:`ttr.registers.doubles`),
and a process knows only those of the parts that are there by then. So a part holds the thumbnails of its
images with outliers, and what it took them for. The merge decides again, by all images before; where the
answer is another one for any image, that stretch is looked at once more.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ttr.backbones.base import Backbone
from ttr.datasets.registry import OpenedImages
from ttr.features.shared import Content, Shared
from ttr.progress import Advance
from ttr.registers.detection import DetectionRule, checked_rule, conclude, look
from ttr.registers.doubles import JudgedPictures, Pictures
from ttr.registers.evidence import SUMS, Evidence, Shown, Sums
from ttr.registers.neurons import RegisterNeurons
from ttr.run import Run


class SharedDetection(Shared[RegisterNeurons]):
    """The parts of one detection; ``rule`` says what makes a register neuron."""

    label = "detecting"

    def __init__(
        self, folder: Path, backbone: Backbone, images: OpenedImages, run: Run, rule: DetectionRule
    ) -> None:
        super().__init__(folder, backbone, images, run)
        self.rule = checked_rule(backbone, rule)
        self._thumbnails: dict[int, np.ndarray] = {}

    def made(self, index: int, advance: Advance) -> Content:
        """Return the sums of a stretch, and what its images with outliers were taken for."""
        pictures = JudgedPictures(self._before(index))
        evidence = self.rule.evidence(self.backbone, pictures)
        skipped = self._look(index, evidence, advance)
        evidence.settle()
        tensors = {
            f"{name}.{number}": x.numpy()
            for number, sums in enumerate(evidence.parts)
            for name, x in sums.tensors().items()
        }
        tensors["thumbnails"] = np.array(pictures.asked, np.float32).reshape(-1, 64)
        tensors["new"] = np.array(pictures.answers, bool)
        return tensors, {
            "images": evidence.images,
            "sizes": sorted(evidence.sizes),
            "parts": [part.images for part in evidence.parts],
            "skipped": skipped,
        }

    def merged(self, skipped: dict[str, str]) -> RegisterNeurons:
        """Return the neurons that one process finds; see :meth:`ttr.features.shared.Shared.merged`."""
        evidence = self.rule.evidence(self.backbone)
        for index, part in self.parts(skipped):
            if not evidence.join(_shown(part)):
                self._look(index, evidence, lambda done: None)
        return conclude(self.backbone, evidence, self.rule, self.images.words)

    def _look(self, index: int, evidence: Evidence, advance: Advance) -> dict[str, str]:
        """Add a stretch's images to some evidence, and return which could not be read, and why."""
        reading = self.reading(index)
        look(self.backbone, reading, self.rule, evidence, self.run.batch_size, advance)
        return reading.skipped

    def _before(self, index: int) -> Pictures:
        """Return the pictures of the images before a part, as far as their parts are there by now."""
        pictures = Pictures()
        for earlier in range(index):
            if earlier not in self._thumbnails and (part := self.read(earlier)) is not None:
                self._thumbnails[earlier] = part[0]["thumbnails"]
            for thumbnail in self._thumbnails.get(earlier, ()):
                pictures.is_new(thumbnail)
            if pictures.full:
                break
        return pictures


def _shown(part: Content) -> Shown:
    tensors, values = part
    parts = tuple(
        Sums(**{name: torch.from_numpy(tensors[f"{name}.{number}"]) for name in SUMS}, images=images)
        for number, images in enumerate(values["parts"])
    )
    sizes = frozenset((height, width) for height, width in values["sizes"])
    return Shown(values["images"], sizes, parts, tensors["thumbnails"], tensors["new"])
