"""The ablation suite: a labelled set, a model under study, conditions, tasks, and analyses.

    calibration images -> Calibration                               what tokens are like at each block
    training images    -> vectors, patches -> probes                heads, trained in the full condition
    test images        -> conditions x tasks -> a number an image   those heads, tested on what is left
    test images        -> conditions x attention, geometry, layers

Heads are trained on full features and tested on ablated ones: what happens to a head that is deployed? The
own probe (``top1_own``) is trained anew on the condition's features: what do these still hold? All of it goes
through the cache in parts, so a run that was interrupted goes on where it stopped, and several processes
share them: donors are drawn within a chunk, by what its images are called, so a chunk is one process's to the
bit, whoever computes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ttr.analysis.probing import default_layers
from ttr.backbones.base import Backbone
from ttr.datasets.layouts.spair import KeypointPair
from ttr.datasets.registry import IGNORE, Dataset, Item
from ttr.errors import OptionError
from ttr.evaluate.heads import LinearHead
from ttr.features.trained import trained_on_patches
from ttr.forward.calibration import Calibration
from ttr.registers.arms import Arm
from ttr.run import Run
from ttr.studies.ablate.collected import Collected, Collector
from ttr.studies.ablate.conditions import FULL, Condition
from ttr.studies.ablate.donors import case_of
from ttr.studies.ablate.measures import Measures
from ttr.studies.ablate.settings import AblationSettings, require
from ttr.studies.ablate.subject import Subject


@dataclass(frozen=True, eq=False)
class Measured:
    """Everything that was measured, image by image; tables follow from it.

    Attributes:
        subject: the model under study, with its calibration.
        dataset: the labelled set.
        conditions: ``full`` first.
        settings: what was measured.
        run: how.
        training: of the training and validation images, see :mod:`ttr.studies.ablate.measures`.
        scored: of the test images.
        analysed: attention, geometry and layers, of a sample of the test images; None without analyses.
        paired: correspondence on annotated pairs, or None: it was measured on warps of the test images.
        blocks: the blocks that layer-wise arrays look into.
    """

    subject: Subject
    dataset: Dataset
    conditions: tuple[Condition, ...]
    settings: AblationSettings
    run: Run
    training: Collected = field(repr=False)
    scored: Collected = field(repr=False)
    analysed: Collected | None = field(repr=False)
    paired: Collected | None = field(repr=False)
    blocks: tuple[int, ...]


def run_experiment(
    backbone: Backbone,
    arm: Arm,
    dataset: Dataset,
    conditions: Sequence[Condition],
    settings: AblationSettings,
    run: Run,
    *,
    calibration: Calibration | None = None,
    bank: Sequence[Item] = (),
    pairs: Sequence[KeypointPair] = (),
) -> Measured:
    """Run the suite.

    Args:
        backbone: the bare backbone.
        arm: the model under study: plain, or wrapped with test-time registers.
        dataset: the labelled set, with training and test images (validation for the probe).
        conditions: from :func:`ttr.studies.ablate.conditions.parse_all`, ``full`` first.
        settings: what is measured.
        run: how; its batch size is what shuffling draws within (:mod:`ttr.studies.ablate.donors`).
        calibration: of this model, for conditions that need one; see
            :func:`ttr.forward.calibration.calibrate`.
        bank: the images that its bank holds; none: they are nobody's in the set.
        pairs: annotated pairs that correspondence is measured on, instead of warps of the test images.

    Raises:
        OptionError: a condition needs a calibration and none is given, batches hold one image, an image has
            no donor, or the backbone is not where the run says.
        DataError: a split that is needed is empty, or the set has no masks for segmentation.
        ImageError: a bad image, with ``on_error="raise"``.
    """
    require(dataset, settings)
    run.check(backbone)
    if run.batch_size < 2:
        raise OptionError("batch_size=1; shuffling across images needs at least 2")
    if calibration is None and any(condition.calibrated for condition in conditions):
        raise OptionError("mean, noise and resample need a calibration; make one with calibrate")
    blocks = default_layers(backbone.num_layers, settings.layers)
    measures = Measures(
        Subject(backbone, arm, calibration, run.seed, settings.donors, tuple(map(case_of, bank))),
        tasks=frozenset(settings.tasks),
        masks=dataset.masks,
        blocks=blocks if settings.analysis_images else blocks[-1:],
    )
    collector = Collector(dataset, tuple(conditions), settings, run, tuple(bank))
    training = collector.training(measures)
    measures = replace(measures, heads=_patch_heads(training, measures, run))
    scored = collector.test(
        _without_warps(replace(measures, blocks=blocks[-1:]), pairs), dataset.select("test")
    )
    analysed = collector.analyses(measures)
    return Measured(
        subject=measures.subject,
        dataset=dataset,
        conditions=tuple(conditions),
        settings=settings,
        run=run,
        training=training,
        scored=scored,
        analysed=analysed,
        paired=collector.pairs(measures, pairs) if pairs else None,
        blocks=measures.blocks,
    )


def _without_warps(measures: Measures, pairs: Sequence[KeypointPair]) -> Measures:
    """Leave correspondence on warps out where it is measured on annotated pairs."""
    return replace(measures, tasks=measures.tasks - {"correspondence"}) if pairs else measures


def _patch_heads(training: Collected, measures: Measures, run: Run) -> dict[int, LinearHead]:
    """Return a patch probe of each looked-into block, trained in the full condition."""
    full = training.arrays[FULL.name]
    if "patch_x" not in full:
        return {}
    assert measures.masks is not None
    y = full["patch_y"].ravel()
    known = y != IGNORE
    x = full["patch_x"].reshape(len(y), *full["patch_x"].shape[2:])[known]
    classes = measures.masks.classes
    return {
        block: trained_on_patches(x[:, index], y[known], classes, run)
        for index, block in enumerate(measures.blocks)
    }
