"""What ``ttr reproduce medical`` measures, as data, and the two protocols that it follows.

    published  as Kukade and Bansal (2025) state it: images stretched to the model's square, nothing cropped;
               CLS may count as an outlier; neurons of all blocks up to the top layer, or of that one alone
    ours       the backbone's own resize and crop; patches alone are outliers; blocks up to the top layer

Threshold, top layer, number of neurons, R, probe and seed are the same in both. Of neither protocol are the
errors of the edit: every item of a batch is edited, each neuron by its own value, CLS included.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from ttr.backbones.base import Backbone
from ttr.checks import integer, names, register_counts
from ttr.datasets.registry import Dataset, sampled_images
from ttr.features.prepared import found_neurons
from ttr.forward.preprocessing import stretching
from ttr.registers.detection import DetectionRule
from ttr.registers.neurons import RegisterNeurons
from ttr.run import Run
from ttr.studies.reproduce.medical_further import NOTHING_FURTHER, Further
from ttr.studies.reproduce.published import PublishedStudy
from ttr.wording import counted

PUBLISHED, OURS = "published", "ours"
PROTOCOLS = (PUBLISHED, OURS)
#: Where the study's settings differ: in its text, in its scripts.
TEXT, SCRIPTS = "text", "scripts"
MAPS = 3
UP_TO, ALONE = "up-to", "alone"


@dataclass(frozen=True)
class MedicalSettings:
    """What is measured of each set and backbone.

    Attributes:
        protocols: of :data:`PROTOCOLS`.
        source: whose threshold and R are taken where they differ, ``"text"`` or ``"scripts"``.
        top_layer: whether the published protocol takes neurons of all blocks ``"up-to"`` the top layer, as
            the rankings do that the study left behind, or of it ``"alone"``, as its text can be read.
        num_registers: R; None: as in the source.
        published_detection: use the published thresholds, layers and numbers of neurons, which belong to the
            published backbones; else the defaults of :class:`ttr.registers.detection.DetectionRule`.
        figure_images: test images that the figures are means over.
        maps: images of them that are shown, with their maps at every block; None: :data:`MAPS`, or none where
            images are to stay anonymous.
        further: what is asked beyond the study.

    Raises:
        OptionError: an unknown name, or a number outside its range.
    """

    protocols: tuple[str, ...] = PROTOCOLS
    source: str = TEXT
    top_layer: str = UP_TO
    num_registers: int | None = None
    published_detection: bool = True
    figure_images: int = 100
    maps: int | None = None
    further: Further = NOTHING_FURTHER

    def __post_init__(self) -> None:
        names("protocols", self.protocols, PROTOCOLS)
        names("source", [self.source], (TEXT, SCRIPTS))
        names("top_layer", [self.top_layer], (UP_TO, ALONE))
        if self.num_registers is not None:
            register_counts([self.num_registers], 1)
        integer("figure_images", self.figure_images, 1)
        integer("maps", self.shown(anonymous=False), 0)
        if self.further.sweep:
            register_counts(self.further.sweep, 0, "sweep")

    def shown(self, *, anonymous: bool) -> int:
        """Return how many images are shown with their maps."""
        return (0 if anonymous else MAPS) if self.maps is None else self.maps

    def registers(self, study: PublishedStudy) -> int:
        """Return R."""
        if self.num_registers is not None:
            return integer("num_registers", self.num_registers, 1)
        return int(self._stated(study).get("num_registers", study.settings["num_registers"]))

    def rule(self, study: PublishedStudy, backbone: str, protocol: str) -> DetectionRule:
        """Return what makes a register neuron of a published backbone, by its catalog name."""
        stated: dict[str, Any] = {}
        if self.published_detection:
            scripts = self._stated(study).get("detection", {})
            stated = {**study.settings["detection"][backbone], **scripts.get(backbone, {})}
        return DetectionRule(**stated, include_cls=protocol == PUBLISHED)

    def neurons(
        self, study: PublishedStudy, backbone: str, protocol: str, model: Backbone, dataset: Dataset, run: Run
    ) -> RegisterNeurons:
        """Return the register neurons of a set's training images under a protocol.

        Raises:
            TTRError: as :func:`ttr.features.prepared.found_neurons` does.
        """
        rule = self.rule(study, backbone, protocol)
        sample = sampled_images(dataset, study.settings["detection_images"], seed=run.seed)
        found = found_neurons(model, sample, run, rule).value
        alone = protocol == PUBLISHED and self.top_layer == ALONE
        return of_top_layer(found, rule.top_k) if alone else found

    def _stated(self, study: PublishedStudy) -> dict[str, Any]:
        """Return what the source has otherwise than the text."""
        return dict(study.settings["scripts"]) if self.source == SCRIPTS else {}


def under(protocol: str, backbone: Backbone) -> Backbone:
    """Return a backbone that looks at images as a protocol has it.

    Raises:
        ModelError: as :func:`ttr.forward.preprocessing.stretching` does.
    """
    return stretching(backbone) if protocol == PUBLISHED else backbone


def of_top_layer(found: RegisterNeurons, top_k: int | None) -> RegisterNeurons:
    """Return the best ``top_k`` neurons of the top layer alone; None: those of it that were kept."""
    layer = found.provenance.top_layer
    allowed = found.kept if top_k is None else (row[:2] for row in found.ranked if row[0] == layer)
    kept = tuple(islice((pair for pair in allowed if pair[0] == layer), top_k)) if found.kept else ()
    said = f"{found.message}; of block {layer} alone {counted(len(kept), 'neuron')}"
    return replace(found, kept=kept, message=said if found.kept else found.message)
