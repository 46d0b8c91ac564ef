"""Find register neurons from norm statistics.

Following Jiang et al. (2025, arXiv 2506.08010): read the patch norms at a late block's output, call the
patches above a threshold outliers, and score every MLP neuron of every block by how strongly it fires there:

    score(l, i) = mean over images with an outlier of  s_l,i * mean over outliers t of |a_l,i(t)|

where a is the input of the MLP's down-projection, and s is the sparsity filter of S-med (Kukade and Bansal
2025): 1 if the activation is below 0.5 on at least half of all tokens of that image, else 0.

One pass over the images, a batch at a time; :mod:`ttr.registers.evidence` holds the running sums.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from numbers import Integral
from typing import Any

from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.backbones.families import as_backbone
from ttr.checks import integer
from ttr.errors import ImageError, ModelError, OptionError
from ttr.forward.batches import batches, count
from ttr.hooks import edits_at
from ttr.norms import Threshold, check_threshold
from ttr.progress import Advance, progress_bar
from ttr.registers.doubles import Pictures
from ttr.registers.evidence import FEWEST, STABLE, Evidence
from ttr.registers.neurons import Provenance, RegisterNeurons
from ttr.registers.seen import Seen, see
from ttr.registers.split_halves import PARTS, split_halves
from ttr.registers.ways import By, check_way
from ttr.version import __version__
from ttr.wording import counted

#: Batches that are sent to a kind of device before what an earlier one tells is heard: it is never idle.
AHEAD = {"cuda": 1}


@dataclass(frozen=True)
class DetectionRule:
    """What makes a register neuron: the settings of :func:`detect` that decide its result."""

    threshold: Threshold = "auto"
    outlier_layer: int = -2
    top_layer: int | None = None
    top_k: int | None = None
    sparsity: bool = True
    include_cls: bool = False
    by: By = "norms"
    halves: int = 0

    def evidence(self, backbone: Backbone, pictures: Pictures | None = None) -> Evidence:
        """Return evidence of nothing yet, held as the rule needs it."""
        parts = PARTS if self.halves else 2
        return Evidence(backbone, pictures, parts=parts, contrast=self.by == "clustering")

    def of(self, backbone: Backbone) -> DetectionRule:
        """Return the rule with the backbone's own blocks, none of them counted from the last.

        Raises:
            ModelError: there is no such block.
        """
        top_layer = None if self.top_layer is None else backbone.layer(self.top_layer, "top_layer")
        return replace(
            self, outlier_layer=backbone.layer(self.outlier_layer, "outlier_layer"), top_layer=top_layer
        )


def detect(
    backbone: Backbone,
    images: Tensor | Iterable[Any],
    *,
    threshold: Threshold = "auto",
    outlier_layer: int = -2,
    top_layer: int | None = None,
    top_k: int | None = None,
    sparsity: bool = True,
    include_cls: bool = False,
    by: By = "norms",
    halves: int = 0,
    batch_size: int = 16,
    image_set: str | None = None,
    progress: bool = False,
) -> RegisterNeurons:
    """Rank all MLP neurons by their activity at outlier patches and keep the register neurons.

    Args:
        backbone: the bare backbone (not wrapped).
        images: files, PIL images, arrays, tensors, a DataLoader, ... (:func:`ttr.forward.batches.batches`).
        threshold: a norm, ``"auto"`` (robust, image by image) or ``"mean+3sd"``; see :mod:`ttr.norms`.
        outlier_layer: block at whose output outliers are read; negative counts from the last. In DINOv2
            the last block can hide outliers that the penultimate shows.
        top_layer: last block whose neurons may be kept. None: the first block at whose output the found
            outliers have half of their norm at ``outlier_layer``; later blocks react to an outlier, they
            do not make it.
        top_k: how many neurons to keep. None, the data-driven cut: keep a neuron if its score is extreme
            (more than 25 robust SD, 1.4826 MAD, above the median positive score of the eligible blocks)
            and selective (its mean |activation| at outliers at least 5 times that at the other patches).
            On every phantom this keeps exactly the planted neurons. On the two full rankings that S-med
            published the first condition alone keeps 8 neurons of CLIP ViT-B/16 and 58 of DINOv2 ViT-L/14,
            where 10 or 20, and 45 or 50, were chosen by hand. The cut is made on evidence: outliers in two
            different images at least, and two halves of these that agree on half of the neurons or more.
            An image that shows nearly the same as one before (its 8 x 8 thumbnail differs by a tenth of
            its SD at most, whatever its brightness) counts once, here and in the score.
        sparsity: apply the sparsity filter.
        include_cls: let CLS count as an outlier, as the predecessor's code does.
        by: ``"norms"``, as above; ``"gradient"``: outliers as above, and a neuron's score is what their norm
            would lose without it (:mod:`ttr.registers.by_gradient`); ``"clustering"``: outliers are the
            smaller of two clusters of the patches, whatever their norm, and a neuron's score what its
            activity there is above that elsewhere (:mod:`ttr.registers.two_clusters`).
        halves: how many times the images are split into random halves, to say how far these agree on the
            head of the ranking (:mod:`ttr.registers.split_halves`); 0: not.
        batch_size: images a pass. Memory holds one batch's MLP inputs, [B, N, D] a block; on CUDA those of
            two, where small batches cost throughput.
        image_set: what the images are, in words, for the provenance.
        progress: show a progress bar with an estimate.

    Returns:
        The kept pairs, the ranking of all neurons, and provenance. No outliers, or not enough to tell their
        neurons from chance, is an answer: an empty set with a message that says so.

    Raises:
        ImageError: no images, or an item is not an image.
        ModelError: there is no such block, or the backbone is wrapped.
        OptionError: a value is outside its range.
    """
    backbone = as_backbone(backbone)
    rule = DetectionRule(threshold, outlier_layer, top_layer, top_k, sparsity, include_cls, by, halves)
    rule = checked_rule(backbone, rule)
    evidence = rule.evidence(backbone)
    with progress_bar("detecting", count(images), show=progress) as advance:
        look(backbone, images, rule, evidence, batch_size, advance)
    return conclude(backbone, evidence, rule, image_set)


def checked_rule(backbone: Backbone, rule: DetectionRule) -> DetectionRule:
    """Return a rule with the backbone's own blocks, or refuse it as :func:`detect` does."""
    rule = replace(rule, threshold=check_threshold(rule.threshold)).of(backbone)
    check_way(rule.by)
    integer("halves", rule.halves, 0)
    top_k = rule.top_k
    if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, Integral) or top_k < 1):
        raise OptionError(f"top_k={top_k!r}; needed an integer, at least 1, or None for the data-driven cut")
    if any(edits_at(site) for site in backbone.sites.neurons):
        raise ModelError(
            f"{backbone.name} is wrapped; remove the wrap (of a copy: ttr.unwrap(model)) and detect on the "
            "bare backbone"
        )
    widths = sorted({backbone.width_of(layer) for layer in range(backbone.num_layers)})
    if len(widths) > 1:
        raise ModelError(
            f"{backbone.name} has blocks of {' and '.join(map(str, widths))} neurons; needed the same number "
            "in every block to rank them: detect on the model from before it was pruned"
        )
    return rule


def look(
    backbone: Backbone,
    images: Tensor | Iterable[Any],
    rule: DetectionRule,
    evidence: Evidence,
    batch_size: int,
    advance: Advance,
) -> None:
    """Add what images show to some evidence; ``rule`` is :func:`checked_rule`'s."""
    ahead = AHEAD.get(backbone.device.type, 0)
    on_the_way: deque[Seen] = deque()
    for batch in batches(backbone, images, batch_size):
        seen = see(
            backbone,
            batch,
            rule.outlier_layer,
            rule.threshold,
            sparsity=rule.sparsity,
            include_cls=rule.include_cls,
            by=rule.by,
        )
        on_the_way.append(seen)
        if len(on_the_way) > ahead:
            evidence.add(on_the_way.popleft())
        advance(batch.shape[0])
    while on_the_way:
        evidence.add(on_the_way.popleft())


def conclude(
    backbone: Backbone, evidence: Evidence, rule: DetectionRule, image_set: str | None
) -> RegisterNeurons:
    """Return what :func:`detect` does of all that its images showed.

    Raises:
        ImageError: there were none.
    """
    evidence.settle()
    if not evidence.images:
        raise ImageError("no images were given; needed at least one to look for outliers")
    at, top_layer = rule.outlier_layer, rule.top_layer
    if top_layer is None:
        top_layer = evidence.emergence(at)
    provenance = Provenance(
        backbone=backbone.name,
        weights=str(backbone.weights),
        weights_hash=backbone.weights_hash,
        dtype=str(backbone.dtype).removeprefix("torch."),
        num_layers=backbone.num_layers,
        num_neurons=backbone.num_neurons,
        image_size=next(iter(evidence.sizes)) if len(evidence.sizes) == 1 else None,
        image_set=image_set,
        images=evidence.images,
        images_with_outliers=evidence.with_outliers + evidence.doubles,
        stability=evidence.stability(top_layer),
        threshold=rule.threshold,
        outlier_layer=at,
        top_layer=top_layer,
        sparsity=rule.sparsity,
        include_cls=rule.include_cls,
        by=None if rule.by == "norms" else rule.by,
        ttr_version=__version__,
    )
    found = _in_words(evidence, provenance, top_layer, rule.top_k)
    if not rule.halves:
        return found
    halves = split_halves(evidence.parts, top_layer, len(found), rule.halves)
    return replace(found, provenance=replace(provenance, split_halves=halves))


def _in_words(
    evidence: Evidence, provenance: Provenance, top_layer: int, top_k: int | None
) -> RegisterNeurons:
    ranked = evidence.ranking()
    seen = _seen(evidence)
    if not evidence.with_outliers:
        return RegisterNeurons(
            (), ranked, provenance, f"no outlier patches: {seen}; there are no register neurons to move"
        )
    if top_k is not None:
        kept = tuple(islice((row[:2] for row in ranked if row[0] <= top_layer), top_k))
        message = f"{seen}; {counted(len(kept), 'neuron')} kept from blocks 0..{top_layer}, as many as asked"
        return RegisterNeurons(kept, ranked, provenance, message)
    kept = tuple(ranked.pairs_where(evidence.whole().extreme_and_selective(top_layer).numpy()))
    if not kept:
        remedy = "outliers exist, but no neuron stands out as their cause: choose top_k, or more images"
        return RegisterNeurons((), ranked, provenance, f"{seen}; {remedy}")
    stability = provenance.stability or 0.0
    if lacking := _lacking(evidence, stability):
        remedy = f"{counted(len(kept), 'neuron')} would have been kept: give more images, or choose top_k"
        return RegisterNeurons((), ranked, provenance, f"not enough outliers: {seen}; {lacking}; {remedy}")
    agreed = f"two halves of the images agree on {100 * stability:.0f} % of the neurons"
    message = f"{seen}; {counted(len(kept), 'neuron')} kept from blocks 0..{top_layer}; {agreed}"
    return RegisterNeurons(kept, ranked, provenance, message)


def _seen(evidence: Evidence) -> str:
    having, doubles = evidence.with_outliers + evidence.doubles, evidence.doubles
    has = "has" if 1 in (having, evidence.images) else "have"
    seen = f"{having} of {counted(evidence.images, 'image')} ({100 * having / evidence.images:.0f} %) {has}"
    twice = {0: "", 1: ", of which 1 is another one's double"}
    return f"{seen} outlier patches{twice.get(doubles, f', of which {doubles} are doubles of others')}"


def _lacking(evidence: Evidence, stability: float) -> str:
    """Return what the evidence lacks to tell register neurons from what fires at one patch by chance."""
    if evidence.with_outliers < FEWEST:
        return f"needed {FEWEST} different ones at least, to compare what they show"
    if stability < STABLE:
        return (
            f"two halves of them agree on {100 * stability:.0f} % of the neurons, needed {100 * STABLE:.0f} %"
        )
    return ""
