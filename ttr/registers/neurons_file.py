"""Read a register-neurons file: our JSON, checked against a schema, or the predecessors' ranking.

The predecessors save a ranking of all neurons as a ``torch.save``d list of (block, neuron, score). It is read
with ``weights_only``, which executes nothing. A ranking says which neurons are best, not how many to keep:
for the two models that were published the published number is kept, and the message says so; for others
nothing is kept until ``.top(k, max_layer)`` chooses.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, TypeAdapter, ValidationError

from ttr.errors import NeuronsError
from ttr.registers.neurons import SCHEMA, Provenance, RegisterNeurons

Pair = tuple[NonNegativeInt, NonNegativeInt]


class NeuronsFile(BaseModel):
    """The schema ``ttr.register-neurons/1``."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_name: Literal["ttr.register-neurons/1"] = Field(alias="schema")
    pairs: list[Pair]
    message: str = ""
    provenance: Provenance = Provenance()
    ranking: list[tuple[NonNegativeInt, NonNegativeInt, float | None]] = []


#: (blocks, MLP width) -> (model, neurons kept, last block), as S-med chose them (Kukade and Bansal 2025).
PUBLISHED_CHOICE = {
    (12, 3072): ("CLIP ViT-B/16", 20, 5),
    (24, 4096): ("DINOv2 ViT-L/14", 50, 19),
}


def read(path: Path) -> RegisterNeurons:
    """Read ``path`` (.json, or .pt and .pth for a ranking), or raise NeuronsError saying what is wrong."""
    if path.suffix in {".pt", ".pth"}:
        return read_ranking(path)
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
    try:
        neurons = RegisterNeurons.from_pairs(file.pairs)
    except NeuronsError as error:
        raise NeuronsError(f"{path}: {error}") from error
    return RegisterNeurons(neurons.kept, ranked or neurons.ranked, file.provenance, file.message)


def read_ranking(path: Path) -> RegisterNeurons:
    """Read a predecessor's ``register_neurons.pt``: a list of (block, neuron, score) over all neurons.

    Raises:
        NeuronsError: no such file, or it holds something else.
    """
    import torch

    try:
        rows = torch.load(path, map_location="cpu", weights_only=True)
        ranked = sorted(((int(b), int(n), float(s)) for b, n, s in rows), key=lambda row: -row[2])
    except Exception as error:
        raise NeuronsError(
            f"{path} is no ranking of register neurons ({type(error).__name__}); needed a torch file with a "
            "list of (block, neuron, score), or a JSON file made with: ttr detect"
        ) from error
    if not ranked or min(min(block, neuron) for block, neuron, _ in ranked) < 0:
        raise NeuronsError(f"{path} holds no (block, neuron, score) rows counted from 0; see: ttr detect")
    shape = (1 + max(row[0] for row in ranked), 1 + max(row[1] for row in ranked))
    if len({row[:2] for row in ranked}) != len(ranked):
        raise NeuronsError(f"{path} lists a neuron twice; list each (block, neuron) once")
    provenance = Provenance(num_layers=shape[0], num_neurons=shape[1])
    neurons = RegisterNeurons((), tuple(ranked), provenance)
    if shape not in PUBLISHED_CHOICE:
        return replace(neurons, message=f"a ranking of {len(ranked)} neurons; choose with top(k, max_layer)")
    model, k, top_layer = PUBLISHED_CHOICE[shape]
    message = (
        f"a ranking of {len(ranked)} neurons; kept as published for {model}: {k} of blocks 0..{top_layer}"
    )
    return replace(neurons.top(k, top_layer), message=message)
