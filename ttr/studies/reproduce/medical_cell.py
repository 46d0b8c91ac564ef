"""One cell of the medical study: a set with a backbone under a protocol, its benchmark and its figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ttr.backbones.base import Backbone
from ttr.datasets.registry import Dataset
from ttr.registers.arms import arms
from ttr.run import Run
from ttr.studies.bench.settings import BenchmarkSettings
from ttr.studies.bench.write import Bench, write_bench
from ttr.studies.provenance import provenance
from ttr.studies.reproduce import medical_further
from ttr.studies.reproduce.medical_figures import Figures, look
from ttr.studies.reproduce.medical_further import Pair
from ttr.studies.reproduce.medical_settings import MedicalSettings
from ttr.studies.reproduce.missing import attempt
from ttr.studies.reproduce.published import PublishedStudy

ARMS = ("plain", "token", "ttr")


@dataclass(frozen=True)
class Cell:
    """One cell: its benchmark, or why there is none.

    Attributes:
        protocol: that it was measured under.
        dataset: name of the set.
        backbone: catalog name of the published backbone.
        measured: the benchmark, or the reason.
        made_with: its provenance, empty where there is none.
        figures: what the study's figures show of it, or why nothing.
        further: the pairs of each further table.
    """

    protocol: str
    dataset: str
    backbone: str
    measured: Bench | str
    made_with: Mapping[str, Any] = field(default_factory=dict)
    figures: Figures | str = ""
    further: Mapping[str, list[Pair]] = field(default_factory=dict)

    @property
    def place(self) -> dict[str, str]:
        """What tells it from the others, as columns of a table."""
        return {"protocol": self.protocol, "dataset": self.dataset, "backbone": self.backbone}

    @property
    def folder(self) -> str:
        """Its benchmark's folder."""
        return f"{self.dataset}-{self.backbone}-{self.protocol}"


def measure(
    study: PublishedStudy,
    settings: MedicalSettings,
    place: tuple[str, str, str],
    dataset: Dataset,
    backbone: Backbone,
    folder: Path,
    run: Run,
) -> Cell:
    """Measure one cell, ``place`` its protocol, set and backbone by name, into its folder in ``folder``."""
    protocol, _, name = place
    own, registers = Cell(*place, ""), settings.registers(study)

    def measured() -> Cell:
        neurons = settings.neurons(study, name, protocol, backbone, dataset, run)
        benchmark = BenchmarkSettings(ARMS, (registers,), heads=("linear",), seeds=(run.seed,))
        bench = write_bench(backbone, dataset, neurons, folder / own.folder, benchmark, run)
        wrapped = arms(("ttr",), backbone, neurons, num_registers=registers)[0]
        shown = (settings.figure_images, settings.maps or 0)
        asked = medical_further.Cell(backbone, dataset, neurons, registers, run)
        return replace(
            own,
            measured=bench,
            made_with=provenance(backbone),
            figures=attempt(look, backbone, wrapped, dataset, run, *shown),
            further=medical_further.ask(settings.further, asked),
        )

    found = attempt(measured)
    return replace(own, measured=found) if isinstance(found, str) else found
