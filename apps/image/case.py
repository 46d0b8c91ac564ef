"""One image on the page: the picture, both runs, what the head says, and what one must be warned of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ttr.analysis.faithfulness import GRADES, grade, meaning
from ttr.apps.image.answers import Reader
from ttr.apps.image.inspection import Inspection
from ttr.apps.image.intake import Picture
from ttr.apps.image.plate import Plate, plate_of
from ttr.wording import counted


@dataclass(frozen=True)
class Answer:
    """What a head says of one image.

    Attributes:
        head: its name.
        calibrated_on: images its probabilities were calibrated on, 0: none.
        rows: (class, probability before, probability after), the likeliest before or after first.
        of: how many classes the head has.
    """

    head: str
    calibrated_on: int
    rows: tuple[tuple[str, float, float], ...]
    of: int

    @property
    def first(self) -> tuple[str, str]:
        """The likeliest class before and after."""
        return max(self.rows, key=lambda row: row[1])[0], max(self.rows, key=lambda row: row[2])[0]

    @property
    def changed(self) -> bool:
        """Whether before and after name another class."""
        before, after = self.first
        return before != after


@dataclass(frozen=True, eq=False)
class Case:
    """All that the page knows of one image.

    Attributes:
        picture: the visitor's image.
        inspection: both runs.
        model: name of the backbone.
        neurons: where its register neurons come from, in words.
        cautions: sentences that must stand beside the maps.
        answer: what the head says, or None.
        beside: the same image through a second choice of model and neurons, or None.
    """

    picture: Picture
    inspection: Inspection
    model: str
    neurons: str
    cautions: tuple[str, ...]
    answer: Answer | None
    beside: Case | None = None

    @property
    def num_registers(self) -> int:
        """Test-time registers of the run after."""
        return int(self.inspection.comparison.provenance["settings"]["num_registers"])

    @cached_property
    def plate(self) -> Plate:
        """The picture as the page's viewer gets it, what maps are laid on."""
        return plate_of(self.picture)

    @property
    def identity(self) -> str:
        """What the page's viewer calls the picture; of a slice it is known before it is drawn."""
        part = self.picture.slice
        return self.plate.identity if part is None else part.identity(self.picture.window)


def answer(reader: Reader, inspection: Inspection, shown: int = 4) -> Answer:
    """Ask a head of both features; keep the ``shown`` classes that matter most."""
    before, after = (reader.probabilities(run.feature) for run in inspection.runs)
    order = np.argsort(-np.maximum(before, after))[:shown]
    rows = tuple((reader.classes[index], float(before[index]), float(after[index])) for index in order)
    return Answer(reader.name, reader.calibrated_on, rows, len(reader.classes))


def cautions(inspection: Inspection, warning: str, others: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return what must be said beside the maps: unfaithful maps first, then neurons, then the model."""
    said = []
    trusts = {"before": inspection.comparison.before.trust, "after": inspection.comparison.after.trust}
    doubtful = [when for when, trust in trusts.items() if grade(trust) != "faithful"]
    if doubtful:
        which = "either map" if len(doubtful) == 2 else f"the map {doubtful[0]}"
        worst = min((trusts[when] for when in doubtful), key=lambda trust: GRADES.index(grade(trust)))
        said.append(f"Do not trust {which} alone: it is {grade(worst)}. {_first_up(meaning(worst))}.")
    if not inspection.num_neurons:
        tokens = counted(inspection.comparison.provenance["settings"]["num_registers"], "blank token")
        said.append(f"No register neuron is moved: “after” is the same model with {tokens}.")
    if inspection.original is not None:
        said.append(
            "Faithful says that the model’s feature comes from the squares that the map shows, artifacts "
            "among them. What the map should be, the original’s tells."
        )
    said.extend(others)
    if warning:
        said.append(warning)
    return tuple(said)


def _first_up(text: str) -> str:
    return text[:1].upper() + text[1:]
