"""Register neurons as a value: which were kept, how all of them rank, and where the ranking came from.

A set is specific to a model, a resolution and an image set, so it carries its provenance and is checked
against the backbone before it is used.

On disk it is JSON, checked against a schema. The predecessors saved a ranking of all neurons instead, a
``torch.save``d list of (block, neuron, score). It is read with ``weights_only``, which executes nothing. A
ranking says which neurons are best, not how many to keep: for the two models that were published the
published number is kept, and the message says so; for others nothing is kept until ``.top(k, max_layer)``
chooses.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, TypeAdapter, ValidationError

from ttr.backbones.catalog import architecture
from ttr.errors import ModelError, NeuronsError, OptionError
from ttr.files import MOST_JSON, JSONError, parse_json, read_bytes, write_json
from ttr.wording import counted

if TYPE_CHECKING:
    from ttr.backbones.base import Backbone

Schema = Literal["ttr.register-neurons/1"]
(SCHEMA,) = get_args(Schema)
#: (blocks, MLP width) -> (model, neurons kept, last block), as S-med chose them (Kukade and Bansal 2025).
PUBLISHED_CHOICE = {
    (12, 3072): ("CLIP ViT-B/16", 20, 5),
    (24, 4096): ("DINOv2 ViT-L/14", 50, 19),
}


class RankedNeuron(NamedTuple):
    """One MLP neuron and its score: mean |activation| at outlier patches (NaN when it was not measured)."""

    layer: int
    neuron: int
    score: float


@dataclass(frozen=True)
class SplitHalves:
    """How far the heads of two rankings agree that random halves of the images make.

    Attributes:
        top: so many neurons of each are compared.
        overlap: share of them that both name, mean over the splits, 0..1.
        low, high: between which 95 % of the splits lie.
        chance: the share that random neurons have.
        splits: how many.
    """

    top: int
    overlap: float
    low: float
    high: float
    chance: float
    splits: int


@dataclass(frozen=True)
class Provenance:
    """Where a set of register neurons was measured; None where it is not known.

    Attributes:
        backbone: name of the backbone.
        weights: origin of its weights.
        weights_hash: first 16 hex digits of the SHA-256 of its state dict.
        dtype: floating-point type in which it took images.
        num_layers: its blocks.
        num_neurons: MLP width of each block.
        image_size: (height, width) in pixels.
        image_set: which labelled set and split they are of, and how many were drawn, in words.
        images: images looked at.
        images_with_outliers: those that had at least one outlier, which alone are scored, doubles once.
        stability: how far two halves of these choose the same neurons, 0..1 (Jaccard's index).
        split_halves: the same of many random halves, for each head of the ranking.
        by: what neurons are ranked by, where it is not their activity at outliers.
        threshold: the rule or norm for outliers.
        outlier_layer: block at whose output outliers were read.
        top_layer: last block from which neurons were kept.
        sparsity: whether the sparsity filter was on.
        include_cls: whether CLS could count as an outlier.
        ttr_version: version that measured.
    """

    backbone: str | None = None
    weights: str | None = None
    weights_hash: str | None = None
    dtype: str | None = None
    num_layers: int | None = None
    num_neurons: int | None = None
    image_size: tuple[int, int] | None = None
    image_set: str | None = None
    images: int | None = None
    images_with_outliers: int | None = None
    stability: float | None = None
    split_halves: tuple[SplitHalves, ...] | None = None
    by: str | None = None
    threshold: float | str | None = None
    outlier_layer: int | None = None
    top_layer: int | None = None
    sparsity: bool | None = None
    include_cls: bool | None = None
    ttr_version: str | None = None


@dataclass(frozen=True)
class RegisterNeurons:
    """The register neurons of a model. Make one with ``ttr.detect``, ``load`` or ``from_pairs``.

    Attributes:
        kept: the kept (block, neuron) pairs, best first; ``pairs`` gives them as a list.
        ranked: all neurons as plain (block, neuron, score), best first; ``ranking`` names their parts. A
            tuple, or what reads like one and is equal to it (:class:`ttr.registers.ranking.Ranking`).
        provenance: where it was measured.
        message: a sentence about the result, such as why it is empty.
    """

    kept: tuple[tuple[int, int], ...]
    ranked: Sequence[tuple[int, int, float]] = field(repr=False)
    provenance: Provenance = Provenance()
    message: str = ""

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The kept neurons as [(block, neuron), ...], best first."""
        return list(self.kept)

    @property
    def ranking(self) -> list[RankedNeuron]:
        """All neurons as named tuples (layer, neuron, score), best first."""
        return [RankedNeuron(*row) for row in self.ranked]

    def __len__(self) -> int:
        return len(self.kept)

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[int, int]]) -> RegisterNeurons:
        """Keep the given (block, neuron) pairs, in the given order, with no scores and no provenance.

        Raises:
            NeuronsError: a pair is not two non-negative integers, or stands there twice.
        """
        if not isinstance(pairs, Iterable):
            raise NeuronsError(f"got {pairs!r}; needed pairs (block, neuron), such as [(5, 599), (4, 2028)]")
        kept = tuple(_pair(pair) for pair in pairs)
        if (twice := _twice(kept)) is not None:
            raise NeuronsError(f"neuron {twice} is listed twice; list each (block, neuron) once")
        return cls(kept=kept, ranked=tuple((*pair, math.nan) for pair in kept))

    def top(self, k: int, max_layer: int | None = None) -> RegisterNeurons:
        """Keep the best ``k`` of the ranking with block <= ``max_layer`` (fewer if there are fewer).

        A negative ``max_layer`` counts from the last block, where the number of blocks is known.

        Raises:
            OptionError: ``k`` is no integer >= 0, or there is no such block.
        """
        if isinstance(k, bool) or not isinstance(k, Integral) or k < 0:
            raise OptionError(f"k={k!r}; needed an integer, 0 or more neurons")
        max_layer = self._block(max_layer)
        allowed = (row[:2] for row in self.ranked if max_layer is None or row[0] <= max_layer)
        kept = tuple(islice(allowed, k))
        top_layer = self.provenance.top_layer if max_layer is None else max_layer
        message = f"{counted(len(kept), 'neuron')} kept by rank"
        if max_layer is not None:
            message += f" from blocks 0..{max_layer}"
        provenance = replace(self.provenance, top_layer=top_layer)
        return replace(self, kept=kept, provenance=provenance, message=message)

    def _block(self, index: int | None) -> int | None:
        blocks = self.provenance.num_layers
        if index is not None and (isinstance(index, bool) or not isinstance(index, Integral)):
            raise OptionError(f"max_layer={index!r}; needed an integer, a block")
        if index is None or (index >= 0 and blocks is None):
            return index
        if blocks is None or not -blocks <= index < blocks:
            counted_from = "0" if blocks is None else f"{-blocks}..{blocks - 1}"
            raise OptionError(f"max_layer={index}; needed a block counted from {counted_from}")
        return index % blocks

    def by_layer(self) -> dict[int, list[int]]:
        """Return {block: [neurons]}, blocks ascending, neurons in order of rank."""
        grouped: dict[int, list[int]] = {}
        for layer, neuron in self.kept:
            grouped.setdefault(layer, []).append(neuron)
        return dict(sorted(grouped.items()))

    def check(self, backbone: Backbone, image_size: tuple[int, int] | None = None) -> None:
        """Raise NeuronsError unless this set belongs to ``backbone``: its shape, name and resolution.

        ``image_size``: (height, width) of the images at hand, for a model that takes any size.
        """
        for layer, neuron in self.kept:
            width = backbone.width_of(layer) if layer < backbone.num_layers else 0
            if neuron >= width:
                pruned = f", {width} in block {layer}" if width not in (0, backbone.num_neurons) else ""
                raise NeuronsError(
                    f"neuron ({layer}, {neuron}) does not exist in {backbone.name}, which has "
                    f"{backbone.num_layers} blocks of {backbone.num_neurons} neurons{pruned} (counted from "
                    "0); use the backbone they were found on, or detect again"
                )
        source = self.provenance
        made_for_name = None if source.backbone is None else architecture(source.backbone)
        given_name = architecture(backbone.name)
        # A model from memory may only have a description, which says nothing about whose neurons these are.
        is_named = ":" in given_name or bool(backbone.warning)
        size = image_size or (source.image_size if backbone.any_size else backbone.image_size)
        for what, made_for, given in (
            ("backbone", made_for_name if is_named else None, given_name),
            ("resolution", source.image_size, size),
            ("depth", source.num_layers, backbone.num_layers),
            ("MLP width", source.num_neurons, backbone.num_neurons),
        ):
            if made_for is not None and made_for != given:
                found = "this is" if what == "backbone" else f"{backbone.name} has"
                side = made_for[0] if isinstance(made_for, tuple) else made_for
                remedy = f"load it with image_size={side} (--image-size {side}), or " * (what == "resolution")
                raise NeuronsError(
                    f"these register neurons were found for {what} {_show(made_for)}, but {found} "
                    f"{_show(given)}; {remedy}detect them again for this backbone; to use them all the same, "
                    "drop their provenance with RegisterNeurons.from_pairs(neurons.pairs)"
                )

    def save(self, path: str | Path) -> None:
        """Write the set as JSON, whole or not at all."""
        write_json(
            Path(path),
            {
                "schema": SCHEMA,
                "pairs": self.kept,
                "message": self.message,
                "provenance": asdict(self.provenance),
                "ranking": [[layer, neuron, _written(score)] for layer, neuron, score in self.ranked],
            },
        )

    @classmethod
    def load(cls, path: str | Path) -> RegisterNeurons:
        """Read a set that ``save`` wrote, or a predecessor's ``register_neurons.pt`` (nothing is executed).

        Raises:
            NeuronsError: no such file, or neither of the two.
        """
        if not isinstance(path, str | Path):
            raise NeuronsError(f"got {type(path).__name__}; needed the path of a register-neurons file")
        path = Path(path)
        return _read_ranking(path) if path.suffix in {".pt", ".pth"} else _read_json(path)


def _written(score: float) -> float | None:
    return None if math.isnan(score) else score


def _pair(pair: Any) -> tuple[int, int]:
    try:
        layer, neuron = pair
        if _whole(layer) and _whole(neuron):
            return int(layer), int(neuron)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # RuntimeError: torch's for several numbers
        pass
    raise NeuronsError(f"got {pair!r}; needed a pair (block, neuron) of integers counted from 0")


def _whole(index: Any) -> bool:
    """Return whether this is a number counted from 0; True and False are none, of whatever library."""
    if isinstance(index, bool) or "bool" in str(getattr(index, "dtype", "")):
        return False
    return bool(int(index) == index >= 0)


def _twice(pairs: Iterable[tuple[int, int]]) -> tuple[int, int] | None:
    """Return the first pair that stands there a second time, or None."""
    seen: set[tuple[int, int]] = set()
    for pair in pairs:
        if pair in seen:
            return pair
        seen.add(pair)
    return None


def _check_ranking(ranked: Sequence[tuple[int, int, float]], path: Path) -> None:
    """Raise NeuronsError unless each neuron ranks once, by finite scores, best first, or without any."""
    if (twice := _twice(row[:2] for row in ranked)) is not None:
        raise NeuronsError(f"{path} lists neuron {twice} twice; list each (block, neuron) once")
    scores = [score for _, _, score in ranked]
    if all(map(math.isnan, scores)):
        return
    if (odd := next((row for row in ranked if not math.isfinite(row[2])), None)) is not None:
        raise NeuronsError(
            f"{path} gives neuron {odd[:2]} the score {odd[2]}; needed finite scores, or none at all"
        )
    after = next((i for i in range(1, len(scores)) if scores[i] > scores[i - 1]), None)
    if after is not None:
        raise NeuronsError(
            f"{path} ranks neuron {ranked[after][:2]} with score {scores[after]:g} behind a lower one; "
            "needed the ranking best first: write it again with ttr detect"
        )


def _check_inside(pairs: Sequence[tuple[int, int]], found_on: Provenance, path: Path) -> None:
    """Raise NeuronsError if the model that the file names has no such neuron."""
    blocks, width = found_on.num_layers or math.inf, found_on.num_neurons or math.inf
    if outside := [pair for pair in pairs if pair[0] >= blocks or pair[1] >= width]:
        said = (
            f"but says that its model has {blocks} blocks of {width} neurons; write it again with ttr detect"
        )
        raise NeuronsError(f"{path} names neuron {outside[0]}, {said}")


def _show(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


Pair = tuple[NonNegativeInt, NonNegativeInt]


class NeuronsFile(BaseModel):
    """The schema ``ttr.register-neurons/1``."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, allow_inf_nan=False)

    schema_name: Schema = Field(alias="schema")
    pairs: list[Pair]
    message: str = ""
    provenance: Provenance = Provenance()
    ranking: list[tuple[NonNegativeInt, NonNegativeInt, float | None]] = []


def _read_json(path: Path) -> RegisterNeurons:
    try:
        text = read_bytes(path, MOST_JSON)
    except OSError as error:
        raise NeuronsError(
            f"register-neurons file {path} cannot be read ({error.strerror}); make one with: ttr detect"
        ) from error
    except ValueError as error:
        raise _no_neurons(path, str(error)) from error
    try:
        parse_json(text)
        # Strict: otherwise true would be the block 1.
        file = TypeAdapter(NeuronsFile).validate_json(text, strict=True)
    except JSONError as error:
        raise _no_neurons(path, str(error)) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise _no_neurons(path, f"{where}: {first['msg']}") from error
    ranked = tuple((layer, n, math.nan if s is None else s) for layer, n, s in file.ranking)
    _check_ranking(ranked, path)
    _check_inside([*file.pairs, *(row[:2] for row in ranked)], file.provenance, path)
    try:
        neurons = RegisterNeurons.from_pairs(file.pairs)
    except NeuronsError as error:
        raise NeuronsError(f"{path}: {error}") from error
    return RegisterNeurons(neurons.kept, ranked or neurons.ranked, file.provenance, file.message)


def _no_neurons(path: Path, why: str) -> NeuronsError:
    return NeuronsError(
        f"{path} is no register-neurons file of schema {SCHEMA} ({why}); make one with: ttr detect"
    )


def _read_ranking(path: Path) -> RegisterNeurons:
    from ttr.backbones.torch_files import read_torch_file

    try:
        rows = [(*_pair((block, neuron)), float(score)) for block, neuron, score in read_torch_file(path)]
    except NeuronsError as error:
        raise NeuronsError(f"{path} is no ranking of register neurons: {error}") from error
    except ModelError as error:
        raise NeuronsError(str(error)) from error
    except Exception as error:
        raise NeuronsError(
            f"{path} is no ranking of register neurons ({type(error).__name__}); needed a torch file with a "
            "list of (block, neuron, score), or a JSON file made with: ttr detect"
        ) from error
    if not rows:
        raise NeuronsError(f"{path} holds no (block, neuron, score) rows counted from 0; see: ttr detect")
    ranked = sorted(rows, key=lambda row: -row[2])
    _check_ranking(ranked, path)
    shape = (1 + max(row[0] for row in ranked), 1 + max(row[1] for row in ranked))
    neurons = RegisterNeurons((), tuple(ranked), Provenance(num_layers=shape[0], num_neurons=shape[1]))
    told = f"a ranking of {counted(len(ranked), 'neuron')}"
    if shape not in PUBLISHED_CHOICE:
        return replace(neurons, message=f"{told}; choose with top(k, max_layer)")
    model, k, top_layer = PUBLISHED_CHOICE[shape]
    message = f"{told}; kept as published for {model}: {k} of blocks 0..{top_layer}"
    return replace(neurons.top(k, top_layer), message=message)
