"""Read a register-neurons file: JSON checked against a schema before anything is believed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, TypeAdapter, ValidationError

from ttr.errors import NeuronsError
from ttr.neurons import SCHEMA, Provenance, RegisterNeurons

Pair = tuple[NonNegativeInt, NonNegativeInt]


class NeuronsFile(BaseModel):
    """The schema ``ttr.register-neurons/1``."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_name: Literal["ttr.register-neurons/1"] = Field(alias="schema")
    pairs: list[Pair]
    message: str = ""
    provenance: Provenance = Provenance()
    ranking: list[tuple[NonNegativeInt, NonNegativeInt, float | None]] = []


def read(path: Path) -> RegisterNeurons:
    """Read ``path``, or raise NeuronsError saying what is wrong with it."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise NeuronsError(
            f"register-neurons file {path} cannot be read ({error.strerror}); make one with: ttr detect"
        ) from error
    try:
        file = TypeAdapter(NeuronsFile).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise NeuronsError(
            f"{path} is no register-neurons file of schema {SCHEMA} ({where}: {first['msg']}); "
            "make one with: ttr detect"
        ) from error
    ranked = tuple((layer, n, math.nan if s is None else s) for layer, n, s in file.ranking)
    neurons = RegisterNeurons.from_pairs(file.pairs)
    return RegisterNeurons(neurons.kept, ranked or neurons.ranked, file.provenance, file.message)
