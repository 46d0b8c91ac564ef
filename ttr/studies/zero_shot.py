"""Class names against images, before and after: the probabilities, and the file that keeps them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttr.datasets.registry import OpenedImages, ReadAhead
from ttr.errors import OptionError
from ttr.evaluate.zero_shot import TEMPLATES, zero_shot
from ttr.files import write_json, write_text
from ttr.registers.variants import ALGORITHM, Variant
from ttr.registers.wrap import TestTimeRegisters
from ttr.run import Run
from ttr.studies.provenance import provenance

if TYPE_CHECKING:
    from torch import Tensor

    from ttr.backbones.base import Backbone
    from ttr.registers.neurons import RegisterNeurons

SCHEMA = "ttr.zero-shot/1"
ENDINGS = (".json", ".csv")


@dataclass(frozen=True)
class ZeroShotSettings:
    """What images are scored against, and how the model is wrapped.

    Attributes:
        classes: names of the classes.
        templates: prompts with ``{}`` where the name goes; several make an ensemble.
        num_registers: R >= 0.
        variant: how the neurons are moved.
    """

    classes: tuple[str, ...]
    templates: tuple[str, ...] = TEMPLATES
    num_registers: int = 1
    variant: Variant = ALGORITHM


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model answers, bare and wrapped.

    Attributes:
        images: names of those that were read.
        classes: the names that they were scored against.
        before: probabilities of the bare model, 0..1, [N, C].
        after: of the wrapped one, [N, C].
        skipped: {image: why it could not be read}.
        made_with: neurons and provenance, as JSON values.
    """

    images: tuple[str, ...]
    classes: tuple[str, ...]
    before: Tensor = field(repr=False)
    after: Tensor = field(repr=False)
    skipped: Mapping[str, str]
    made_with: Mapping[str, Any] = field(repr=False)


def answers_of(
    backbone: Backbone, neurons: RegisterNeurons, images: OpenedImages, settings: ZeroShotSettings, run: Run
) -> Answers:
    """Score images against class names with the bare model and with its registers moved.

    Raises:
        TTRError: as :func:`ttr.evaluate.zero_shot.zero_shot` and the wrap do.
    """
    read = ReadAhead(images, run)
    wrap = TestTimeRegisters(
        backbone, neurons, num_registers=settings.num_registers, variant=settings.variant
    )

    def scored() -> Tensor:
        return zero_shot(
            backbone,
            read,
            settings.classes,
            templates=settings.templates,
            batch_size=run.batch_size,
            progress=run.progress,
        )

    before = scored()
    with wrap:
        after = scored()
    asked = {name: value for name, value in asdict(settings).items() if name != "classes"}
    made_with = {
        "neurons": neurons.pairs,
        "provenance": provenance(backbone, batch_size=run.batch_size, **asked),
    }
    return Answers(tuple(read.names), settings.classes, before, after, dict(read.skipped), made_with)


def check_out(out: Path | None) -> None:
    """Raise OptionError where a file is asked for whose form its name does not tell."""
    if out is not None and out.suffix not in ENDINGS:
        raise OptionError(f"--out {out}; needed a name ending in {' or '.join(ENDINGS)}")


def write_answers(found: Answers, out: Path) -> None:
    """Write the probabilities as JSON, or as CSV, one line an image and class; the name says which."""
    rows = list(zip(found.images, found.before.tolist(), found.after.tolist(), strict=True))
    if out.suffix == ".csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["image", "class", "before", "after"])
        for image, *sides in rows:
            writer.writerows([image, *row] for row in zip(found.classes, *sides, strict=True))
        write_text(out, text.getvalue())
        return
    result = {
        "schema": SCHEMA,
        "classes": list(found.classes),
        "images": [{"image": image, "before": before, "after": after} for image, before, after in rows],
        **found.made_with,
    }
    write_json(out, result | ({"skipped": dict(found.skipped)} if found.skipped else {}))
