"""What a demonstration found: the neurons, how they compare with the planted truth, and the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ttr.registers.neurons import RegisterNeurons
from ttr.studies.compare.comparison import ImageComparison


@dataclass(frozen=True)
class Detected:
    """Detection against the truth.

    Attributes:
        neurons: what was found.
        planted: the truth.
        images: looked at.
        recall: share of the planted that were found, 0..1.
        precision: share of the found that were planted, 0..1.
    """

    neurons: RegisterNeurons
    planted: tuple[tuple[int, int], ...]
    images: int
    recall: float
    precision: float

    @classmethod
    def of(cls, neurons: RegisterNeurons, planted: Sequence[tuple[int, int]], images: int) -> Detected:
        """Compare what was found on so many images with what was planted."""
        truth, found = set(planted), set(neurons.pairs)
        right = len(truth & found)
        return cls(neurons, tuple(planted), images, right / len(truth), right / max(len(found), 1))

    def to_json(self) -> dict[str, Any]:
        """Return it as an entry of ``results.json``."""
        return {
            "message": self.neurons.message,
            "images": self.images,
            "pairs": self.neurons.pairs,
            "planted": list(self.planted),
            "recall": self.recall,
            "precision": self.precision,
        }


@dataclass(frozen=True)
class Demo:
    """What the demonstration found.

    Attributes:
        detected: against the planted truth.
        comparisons: before and after, an image each.
        seconds: in all.
        answer: in one sentence what a real model showed; "" on a phantom of random weights.
    """

    detected: Detected
    comparisons: list[ImageComparison]
    seconds: float
    answer: str = ""
