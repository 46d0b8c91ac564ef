"""A reader study's folder: what everybody may see of it, and the key that stays sealed until the analysis.

``manifest.json`` says what is asked; ``readers.csv`` has each reader's code; ``key.json`` says which trial is
which image in which condition, what is true, and the seed, from which all orders follow. The manifest holds
the key's SHA-256, so that a key that was changed after the answers is known. Pictures are called ``picture-``
and something random.

The first analysis of all answers unseals the study: from then on nobody's answer would be blind, and none is
taken any more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

from ttr.digests import sha256
from ttr.errors import DataError
from ttr.files import MANIFEST, read_bytes, read_json, write_json
from ttr.studies.reading.design import Trial
from ttr.studies.reading.settings import ReadingSettings
from ttr.studies.schemas import MOST_MANIFEST, READING

KEY, READERS, UNSEALED = "key.json", "readers.csv", "unsealed.json"
PICTURE = re.compile(r"picture-[0-9a-f]{16}\.png")
#: Bytes of a key, and of a picture, at most.
MOST_KEY, MOST_PICTURE = 64 << 20, 16 << 20
COMMAND = "ttr readers prepare"


class Case(BaseModel):
    """An image of the study.

    Attributes:
        name: what results call it.
        truth: the right answer; empty where it is not known.
        pictures: {none, before, after, perturbed: file}; perturbed of catch trials alone.
        perturbed: how the map of its catch trial was made; empty: it has none.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    name: str
    truth: str
    pictures: dict[str, str]
    perturbed: str


class Key(BaseModel):
    """What is sealed: images, every trial in order, each reader's code, and the seed of the orders."""

    model_config = ConfigDict(strict=True, extra="forbid")

    cases: list[Case]
    trials: list[Trial]
    codes: dict[str, str]
    seed: int


@dataclass(frozen=True)
class Study:
    """A prepared study.

    Attributes:
        folder: where it lies.
        settings: what is asked.
        key: what is sealed.
        provenance: what made its maps.
    """

    folder: Path
    settings: ReadingSettings
    key: Key = field(repr=False)
    provenance: dict[str, Any] = field(repr=False)

    @property
    def with_truth(self) -> bool:
        """Whether it is known what is right."""
        return all(case.truth for case in self.key.cases)

    @property
    def unsealed(self) -> bool:
        """Whether its answers were analysed."""
        return (self.folder / UNSEALED).exists()

    def of_reader(self, reader: str) -> list[Trial]:
        """Return a reader's trials in order."""
        return [trial for trial in self.key.trials if trial.reader == reader]

    def unseal(self, answers: int) -> None:
        """Note that the answers, so many, were analysed; the first time stays."""
        if not self.unsealed:
            write_json(self.folder / UNSEALED, {"answers": answers})


def sealed(key: Key) -> bytes:
    """Return a key as it is written."""
    return key.model_dump_json().encode() + b"\n"


def read_study(folder: Path) -> Study:
    """Read a study.

    Raises:
        DataError: it is no study of ttr readers prepare, its key is not the one it was prepared with, or it
            names something outside of the folder.
    """
    if not (folder / MANIFEST).is_file():
        raise DataError(f"{folder} has no {MANIFEST}: not a prepared study; make one with: {COMMAND}")
    try:
        manifest = read_json(folder / MANIFEST, MOST_MANIFEST)
        if not isinstance(manifest, dict) or manifest.get("schema") != READING:
            raise ValueError(f"it is no manifest of {COMMAND}")
        content = read_bytes(folder / KEY, MOST_KEY)
        if sha256([content]) != manifest["key_sha256"]:
            raise ValueError(f"{KEY} is not the one that the study was prepared with")
        key = Key.model_validate_json(content)
        settings = TypeAdapter(ReadingSettings).validate_python(manifest["settings"])
        _check(key, settings)
        return Study(folder, settings, key, dict(manifest["provenance"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = " ".join(str(getattr(error, "strerror", None) or error).split())[:200]
        raise DataError(f"{folder} is no sound study ({why}); prepare it again with: {COMMAND}") from error


def _check(key: Key, settings: ReadingSettings) -> None:
    """Raise ValueError where parts of a key do not fit each other."""
    if len({trial.trial for trial in key.trials}) < len(key.trials):
        raise ValueError("two trials have one name")
    for trial in key.trials:
        if not 0 <= trial.case < len(key.cases) or trial.reader not in key.codes:
            raise ValueError("a trial of no image, or of no reader")
    for case in key.cases:
        if case.truth and case.truth not in settings.answers:
            raise ValueError("a truth that is none of the answers")
        if not all(PICTURE.fullmatch(file) for file in case.pictures.values()):
            raise ValueError("a picture with a strange name")
