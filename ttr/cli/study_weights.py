"""Weights of a study's models, given by name, and the one way to load a model for ``ttr reproduce``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ttr.cli.loading import load_backbone

if TYPE_CHECKING:
    from ttr.backbones.base import Backbone
    from ttr.studies.reproduce.published import PublishedStudy


def study_loader(
    study: PublishedStudy,
    known: Sequence[str],
    weights: list[str] | None,
    pretrained: bool,
    rehearsal: bool,
    device: str,
) -> Callable[[str], Backbone]:
    """Return what loads a model of a study by name: at the study's image size, unless it is a rehearsal.

    The loader raises ModelError for a model that no weights were given for.

    Args:
        study: whose image size.
        known: names of its models.
        weights: as given, see :func:`parse_places`.
        pretrained: fetch the published weights of those that have no file.
        rehearsal: another model stands in, at its own size, with random weights if need be.
        device: to load onto.

    Raises:
        OptionError: weights of no model of the study, or weights for a rehearsal.
    """
    from ttr.errors import ModelError, OptionError
    from ttr.studies.reproduce.medical import check_names

    files = parse_places("--weights", weights)
    check_names("--weights", files, known)
    if rehearsal and files:
        raise OptionError("got --weights with --backbone; a rehearsal takes random weights or --pretrained")

    def load(name: str) -> Backbone:
        if rehearsal:
            return load_backbone(name, None, pretrained, None, device)
        if name not in files and not pretrained:
            raise ModelError(f"no weights were given for it: --pretrained, or --weights {name}=FILE")
        size = study.settings["image_size"]
        return load_backbone(name, files.get(name), name not in files, size, device)

    return load


def parse_places(option: str, given: list[str] | None) -> dict[str, Path]:
    """Turn ``["a=DIR,b=DIR", "c=DIR"]`` into {name: path}; a comma belongs to a path unless NAME= follows.

    Raises:
        OptionError: a part is no NAME=PATH, or a name stands twice.
    """
    from ttr.errors import OptionError

    places: dict[str, Path] = {}
    for part in (part for text in given or () for part in re.split(r",(?=[\w-]+=)", text)):
        name, _, path = part.partition("=")
        name = name.strip()
        if not name or not path.strip():
            raise OptionError(f"{option} {part!r}: needed NAME=PATH, several with commas or the option again")
        if name in places:
            raise OptionError(f"{option} names {name} twice: {places[name]} and {path.strip()}")
        places[name] = Path(path.strip()).expanduser()
    return places
