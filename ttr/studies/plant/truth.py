"""What a planted model shows beside the model without artifacts, whose own maps are the truth.

Of each image: CLS's attention over the patches in the last block, mean of the heads, from the original, from
the planted model, from it with one test-time register, and with its planted neurons zeroed; and the cosine of
each map and embedding with the original's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.errors import ModelError
from ttr.forward.batches import batches
from ttr.forward.record import Record, record
from ttr.registers.neurons import RegisterNeurons
from ttr.registers.wrap import TestTimeRegisters
from ttr.studies.plant.collected import last_map
from ttr.studies.plant.settings import Bounds
from ttr.wording import counted

BATCH = 8
#: Norm over the median patch norm of the image, behind the block before the last, from which a patch is one.
ARTIFACT = 5.0
#: Activation from which a planted neuron has opened; gelu is never quite silent.
OPEN = 1.0


@dataclass(frozen=True, eq=False)
class Truth:
    """One image, original, planted and after.

    Attributes:
        original: map of the unplanted model, [rows, columns], sum 1.
        planted: of the planted one.
        after: of the planted one with one test-time register.
        triggered: whether a planted neuron fires anywhere in the image.
        artifacts: patches with at least five times the median norm behind the block before the last.
        attention: CLS's attention on them in the last block of the planted model, 0..1.
        planted_map: cosine of the planted map with the original.
        after_map: of the map after.
        zeroed_map: of the map with the planted neurons zeroed, and no register.
        planted_embedding: cosine of the planted embedding with the original.
        after_embedding: of the embedding after.
        zeroed_embedding: of the embedding with the planted neurons zeroed.
    """

    original: np.ndarray
    planted: np.ndarray
    after: np.ndarray
    triggered: bool
    artifacts: int
    attention: float
    planted_map: float
    after_map: float
    zeroed_map: float
    planted_embedding: float
    after_embedding: float
    zeroed_embedding: float


def show_truth(original: Backbone, planted: Backbone, images: Tensor | Iterable[Any]) -> list[Truth]:
    """Show images to the original, to the planted model, and to it with one test-time register.

    Args:
        original: the model without artifacts.
        planted: the same with artifacts, its ``planted`` neurons known.
        images: a tensor [N, 3, H, W], or an iterable of PIL images or tensors [3, H, W].

    Raises:
        ModelError: no neurons were planted, or the two are no such pair.
        ImageError: an item is not an image.
    """
    if not planted.planted:
        raise ModelError(f"{planted.name} has no planted neurons; needed a phantom such as phantom-dinov2")
    if (original.layout, original.num_neurons) != (planted.layout, planted.num_neurons):
        raise ModelError(
            f"{original.name} at {original.image_size} and {planted.name} at {planted.image_size} are no "
            "pair; load both of one model, at one image size"
        )
    neurons = RegisterNeurons.from_pairs(planted.planted)
    found = []
    for batch in batches(original, images, BATCH):
        fires = Firing(planted.planted)
        views = [
            record(original, batch, attention=True),
            record(planted, batch, attention=True, neurons=fires),
        ]
        for registers in (1, 0):
            with TestTimeRegisters(planted, neurons, num_registers=registers):
                views.append(record(planted, batch, attention=True))
        found += _rows(fires.images, *views)
    return found


class Firing:
    """Observer of neuron activations: in which images a planted neuron opens, bool [B]."""

    def __init__(self, pairs: Iterable[tuple[int, int]]) -> None:
        self.pairs = list(pairs)
        self.images = torch.zeros(1, dtype=torch.bool)

    def __call__(self, block: int, active: Tensor) -> None:
        """See activations [B, N, hidden] of a block."""
        neurons = [neuron for layer, neuron in self.pairs if layer == block]
        if neurons:
            self.images = self.images | (active[..., neurons].amax(dim=(1, 2)) > OPEN).cpu()


def _rows(fires: Tensor, original: Record, planted: Record, after: Record, zeroed: Record) -> list[Truth]:
    views = {"planted": planted, "after": after, "zeroed": zeroed}
    maps = {name: _map(view) for name, view in {"original": original, **views}.items()}
    cosines = {f"{name}_map": _cosine(maps[name], maps["original"]) for name in views}
    for name, view in views.items():
        cosines[f"{name}_embedding"] = _cosine(view.embedding, original.embedding)
    patches = planted.layout.where("patches")
    norms = planted.norms[-2][:, patches]
    large = norms >= ARTIFACT * norms.median(dim=1, keepdim=True).values
    attention = (planted.cls_attention[-1].mean(dim=1)[:, patches] * large).sum(dim=1)
    grids = {
        name: planted.layout.to_grid(maps[name]).cpu().numpy() for name in ("original", "planted", "after")
    }
    return [
        Truth(
            original=grids["original"][index],
            planted=grids["planted"][index],
            after=grids["after"][index],
            triggered=bool(fires[index]),
            artifacts=int(large[index].sum()),
            attention=float(attention[index]),
            **{name: values[index] for name, values in cosines.items()},
        )
        for index in range(len(norms))
    ]


def _map(view: Record) -> Tensor:
    return last_map(view.cls_attention, view.layout.where("patches"))


def _cosine(a: Tensor, b: Tensor) -> list[float]:
    return F.cosine_similarity(a.double(), b.double(), dim=1).tolist()


def summary(truth: list[Truth]) -> dict[str, float]:
    """Return the numbers that :class:`Bounds` speaks of, rounded, NaN where no image tells."""
    hit, free = [t for t in truth if t.artifacts], [t for t in truth if not t.triggered]

    def mean(rows: list[Truth], *names: str) -> float:
        values = [getattr(row, name) for row in rows for name in names]
        return float(np.mean(values)) if values else float("nan")

    untouched = [min(t.planted_map, t.planted_embedding) for t in free]
    return {
        "images": len(truth),
        "with_artifacts": len(hit),
        "wrecked": mean(hit, "planted_map"),
        "attention": mean(hit, "attention"),
        "untouched": min(untouched, default=float("nan")),
        "restored_map": mean(truth, "after_map"),
        "restored_embedding": mean(truth, "after_embedding"),
        "zeroed": mean(truth, "zeroed_map", "zeroed_embedding"),
    }


def check_bounds(truth: list[Truth], bounds: Bounds) -> None:
    """Raise ModelError, naming each bound that does not hold, or where no image can tell of one."""
    found = summary(truth)
    if not found["with_artifacts"]:
        raise ModelError(
            f"the planted artifacts appear on none of {counted(len(truth), 'image')}; give images with "
            "flat corners"
        )
    if all(row.triggered for row in truth):
        raise ModelError(
            f"planted neurons fire on every one of {counted(len(truth), 'image')}, so none tells whether "
            "others are untouched; give some images without a flat corner too"
        )
    missed = [
        f"{name} {found[name]:.4f} (needed {'at most' if name == 'wrecked' else 'at least'} {bound:g})"
        for name, bound in asdict(bounds).items()
        if not (found[name] <= bound if name == "wrecked" else found[name] >= bound)  # nor is NaN within
    ]
    if missed:
        raise ModelError(
            f"the planted artifacts miss their bounds: {', '.join(missed)}; try another seed, or more images"
        )
