"""How artifacts are searched for and planted, and what must hold of them afterwards."""

from __future__ import annotations

from dataclasses import dataclass

from ttr.checks import integer
from ttr.errors import OptionError


@dataclass(frozen=True)
class Phase:
    """A part of the search for the direction.

    Attributes:
        steps: of Adam.
        rate: its first learning rate; it falls along a cosine to a fiftieth.
        shares: CLS's attention that one register shall hold in the last three blocks, 0..1.
        weights: how much each of the three counts.
    """

    steps: int
    rate: float
    shares: tuple[float, ...]
    weights: tuple[float, ...]


#: Straight to the second the search fails: a share in the last block alone is found at the embedding's cost.
PHASES = (
    Phase(80, 0.01, (0.1, 0.1, 0.1), (1.0, 1.0, 1.0)),
    Phase(75, 0.008, (0.08, 0.12, 0.15), (0.5, 1.0, 4.0)),
)


@dataclass(frozen=True)
class PlantingSettings:
    """What decides the artifacts, besides model and images.

    Attributes:
        layer: block of the neurons; None: half of the depth.
        count: how many neurons give way.
        strength: norm at an artifact over the median patch norm behind the last block.
        flat: SD of the grey values (0..1) below which a patch is flat.
        corner: rows and columns of patches that make a corner.
        phases: of the search.
        batch_size: images a step.
        seed: which images a step sees.
    """

    layer: int | None = None
    count: int = 10
    strength: float = 13.0
    flat: float = 0.02
    corner: int = 2
    phases: tuple[Phase, ...] = PHASES
    batch_size: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise OptionError for a value outside its range."""
        for name, least in (("count", 1), ("corner", 1), ("batch_size", 1), ("seed", 0)):
            integer(name, getattr(self, name), least)
        for name in ("strength", "flat"):
            if not 0 < getattr(self, name) < float("inf"):
                raise OptionError(f"{name}={getattr(self, name)!r}; needed a positive number")


@dataclass(frozen=True)
class Bounds:
    """What must hold of planted artifacts, as means over images; cosines are with the original's.

    Attributes:
        wrecked: map cosine with artifacts, on images that have any: at most.
        attention: CLS's attention on them in the last block: at least.
        untouched: lowest map and embedding cosine of an image without a trigger: at least.
        restored_map: map cosine with one test-time register: at least.
        restored_embedding: embedding cosine with one test-time register: at least.
        zeroed: map and embedding cosine with the planted neurons zeroed: at least.
    """

    wrecked: float = 0.6
    attention: float = 0.2
    untouched: float = 0.999
    restored_map: float = 0.99
    restored_embedding: float = 0.98
    zeroed: float = 0.999
