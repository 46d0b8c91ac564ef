"""The models of a published study, their weights given by name, and the one way to load them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.cli import given, options
from ttr.cli.loading import load_backbone

if TYPE_CHECKING:
    from ttr.backbones.base import Backbone
    from ttr.studies.reproduce.published import PublishedStudy


InPlace = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="A rehearsal: measure this one in place of the study's models, such as phantom. The published "
        "numbers are then of other models.",
        callback=given.backbone,
    ),
]


@dataclass(frozen=True, kw_only=True)
class StudyModels(options.PlaceOptions):
    """The models of a published study: where their weights lie, and where they compute."""

    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE,...",
            help="Weights of the study's models on this machine: clip-vit-b-16=FILE,..., or repeated.",
        ),
    ] = None
    pretrained: options.Pretrained = False

    def loader(
        self,
        study: PublishedStudy,
        known: Sequence[str],
        *,
        rehearsal: bool,
        stand_for: Mapping[str, str] = MappingProxyType({}),
    ) -> Callable[[str], Backbone]:
        """Return what loads a model of a study by name: at the study's image size, unless it is a rehearsal.

        The loader raises ModelError for a model that no weights were given for.

        Args:
            study: whose image size.
            known: names of its models.
            rehearsal: another model stands in, at its own size, with random weights if need be.
            stand_for: {name of the study: the backbone behind it}, where names are the study's own.

        Raises:
            OptionError: weights of no model of the study, or weights for a rehearsal.
        """
        from ttr.errors import ModelError, OptionError
        from ttr.studies.reproduce.medical import check_names

        files = parse_places("--weights", self.weights)
        check_names("--weights", files, known)
        if rehearsal and files:
            raise OptionError(
                "got --weights with --backbone; a rehearsal takes random weights or --pretrained"
            )
        place = options.PlacedOptions(device=self.device, dtype=self.dtype)

        def load(name: str) -> Backbone:
            if rehearsal:
                return load_backbone(replace(place, pretrained=self.pretrained).of(name))
            if name not in files and not self.pretrained:
                raise ModelError(f"no weights were given for it: --pretrained, or --weights {name}=FILE")
            size = study.settings["image_size"]
            own = replace(place, weights=files.get(name), pretrained=name not in files, image_size=size)
            try:
                return load_backbone(own.of(stand_for.get(name, name)))
            except ModelError as error:
                # It becomes part of a result, which names a file of weights without its folders, and nobody.
                said = str(error).replace(str(Path.home()), "~")
                if file := files.get(name):
                    said = said.replace(str(file), file.name)
                raise ModelError(said) from None

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
