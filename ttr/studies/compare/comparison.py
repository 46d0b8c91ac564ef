"""Before and after: what moving the registers does to norms and attention, image by image.

``compare`` runs every image through the bare backbone and through the wrapped one, and keeps for each run the
numbers of the published figures: the largest patch norm, the outlier patches, the largest attention that CLS
pays to a patch, and what the registers hold of both, at every block. The outlier threshold is taken from the
bare map and applied to both, so that before and after are measured with one yardstick.

A cleaner map is not a more faithful one. So each map's faithfulness stands beside it, with a word for it
(:mod:`ttr.analysis.faithfulness`): whether the image's feature comes from the patches that it shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from torch import Tensor

from ttr.analysis.faithfulness import record_with_faithfulness
from ttr.analysis.reference import BATCH as REFERENCE_BATCH
from ttr.analysis.reference import Reference, refer
from ttr.backbones.base import Backbone
from ttr.backbones.families import as_backbone
from ttr.checks import integer
from ttr.errors import OptionError
from ttr.forward.batches import batches, check_images, count
from ttr.forward.preprocessing import pixels_of
from ttr.norms import Threshold, check_threshold, outlier_threshold
from ttr.progress import progress_bar
from ttr.registers.neurons import RegisterNeurons
from ttr.registers.variants import ALGORITHM, Variant
from ttr.registers.wrap import TestTimeRegisters
from ttr.studies.compare.view import View, view_of
from ttr.studies.provenance import provenance
from ttr.wording import counted


@dataclass(frozen=True)
class ImageComparison:
    """One image before and after.

    Attributes:
        image: its name.
        outlier_layer: block at whose output outliers were counted.
        outlier_threshold: norm above which a patch counted, in both runs.
        before: the bare model.
        after: the wrapped model.
        pixels: what the model was given, uint8 [H, W, 3].
        provenance: what the run was made with (:func:`ttr.studies.provenance.provenance`), the same for all
            images.
    """

    image: str
    outlier_layer: int
    outlier_threshold: float
    before: View
    after: View
    pixels: np.ndarray = field(repr=False, compare=False)
    provenance: Mapping[str, Any] = field(repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return one entry of ``compare.json``; the provenance stands once, in the manifest beside it."""
        return {
            "image": self.image,
            "outlier_layer": self.outlier_layer,
            "outlier_threshold": self.outlier_threshold,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
        }


def compare(
    backbone: Backbone,
    neurons: RegisterNeurons,
    images: Tensor | Iterable[Any],
    *,
    names: Sequence[str] | None = None,
    num_registers: int = 1,
    variant: Variant = ALGORITHM,
    threshold: Threshold | None = None,
    outlier_layer: int | None = None,
    reference: Any = None,
    batch_size: int = 8,
    progress: bool = False,
) -> Iterator[ImageComparison]:
    """Compare each image, bare against wrapped with ``num_registers`` test-time registers.

    The arguments are checked at once; images run as the returned iterator is read, a batch at a time.

    Args:
        backbone: the bare backbone.
        neurons: its register neurons (an empty set compares with the blank token).
        images: files, PIL images, arrays, tensors, a DataLoader, ... (:func:`ttr.forward.batches.batches`).
        names: a name for each image; None: "image 0", ...
        num_registers: R >= 0.
        variant: how the neurons are moved, see :mod:`ttr.registers.variants`.
        threshold: for outliers; None: the rule the neurons were found with, else ``"auto"``.
        outlier_layer: where outliers are counted; None: where the neurons' were, else the penultimate.
        reference: other images of the same kind, eight or so, as ``images`` may be given: features are
            centred on their mean; or :class:`References`, run before. None: some that the library has
            (:mod:`ttr.analysis.reference`).
        batch_size: images a pass.
        progress: show a progress bar with an estimate.

    Raises:
        NeuronsError: the neurons belong to another backbone.
        ModelError: the model has no CLS token, or is wrapped already.
        OptionError: a value is outside its range, or there are fewer names than images.
        ImageError: an item is no image.
    """
    backbone = as_backbone(backbone)
    backbone.require_cls()
    integer("batch_size", batch_size, 1)
    check_images(backbone, images)
    if names is not None and not isinstance(names, Sequence):
        raise OptionError(f"names={names!r}; needed a list, one name an image")
    wrap = TestTimeRegisters(backbone, neurons, num_registers=num_registers, variant=variant)
    rule, layer = yardstick(backbone, neurons, threshold, outlier_layer)
    made_with = MappingProxyType(
        provenance(
            backbone,
            num_registers=wrap.num_registers,
            variant=wrap.variant,
            threshold=rule,
            outlier_layer=layer,
            batch_size=int(batch_size),
        )
    )

    def run() -> Iterator[ImageComparison]:
        done = 0
        ready = isinstance(reference, References)
        others = reference if ready else References.of(backbone, wrap, reference)
        with progress_bar("comparing", count(images), show=progress) as advance:
            for batch in batches(backbone, images, batch_size):
                neurons.check(backbone, (batch.shape[-2], batch.shape[-1]))
                for found in _of_batch(backbone, wrap, batch, others, rule, layer):
                    yield ImageComparison(image=_name(names, done), provenance=made_with, **found)
                    done += 1
                advance(batch.shape[0])

    return run()


def _of_batch(
    backbone: Backbone,
    wrap: TestTimeRegisters,
    batch: Tensor,
    others: References,
    rule: Threshold,
    layer: int,
) -> Iterator[dict[str, Any]]:
    """Run a batch bare and wrapped; yield what both show of each image, the outliers' norm from the bare."""
    bare, trust_before = record_with_faithfulness(backbone, batch, reference=others.bare)
    with wrap:
        wrapped, trust_after = record_with_faithfulness(backbone, batch, reference=others.wrapped)
    bare, wrapped = bare.cpu(), wrapped.cpu()
    limits = outlier_threshold(bare.layout.select(bare.norms[layer], "patches"), rule)
    pictures = pixels_of(backbone, batch)
    for item, limit in enumerate(limits.tolist()):
        yield {
            "outlier_layer": layer,
            "outlier_threshold": limit,
            "before": view_of(bare, trust_before, item, layer, limit),
            "after": view_of(wrapped, trust_after, item, layer, limit),
            "pixels": pictures[item],
        }


@dataclass(frozen=True, eq=False)
class References:
    """What faithfulness is centred on, of the bare and of the wrapped model; None where there is nothing."""

    bare: Reference | None
    wrapped: Reference | None

    @classmethod
    def of(cls, backbone: Backbone, wrap: TestTimeRegisters, images: Any = None) -> References:
        """Run the reference images; None: those of the library."""
        given = None if images is None else list(batches(backbone, images, REFERENCE_BATCH))
        bare = refer(backbone, given)
        with wrap:
            return cls(bare, refer(backbone, given))


def highest(comparisons: Iterable[ImageComparison], name: str) -> float:
    """Return the largest value of the maps of that name, before and after: the end of their one scale."""
    return max(float(getattr(view.maps, name).max()) for c in comparisons for view in (c.before, c.after))


def yardstick(
    backbone: Backbone, neurons: RegisterNeurons, threshold: Threshold | None, outlier_layer: int | None
) -> tuple[Threshold, int]:
    """Return the rule for outliers and the block where they are counted: as given, else the neurons' own."""
    source = neurons.provenance
    rule = check_threshold(threshold if threshold is not None else source.threshold or "auto")  # type: ignore[arg-type]
    wanted = outlier_layer if outlier_layer is not None else source.outlier_layer
    return rule, backbone.layer(-2 if wanted is None else wanted, "outlier_layer")


def _name(names: Sequence[str] | None, index: int) -> str:
    if names is None:
        return f"image {index}"
    if index >= len(names):
        raise OptionError(f"got {counted(len(names), 'name')} for more images; give one name an image")
    return names[index]
