"""Files that were given together: which of them are one series, and in which order its images stand.

Only what a file's header says of size, kind and place decides; of a patient nothing is read, and the UID of a
series serves as a digest, to tell it from others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ttr.apps.image.decoding import MOST_SLICES, MOST_STACK_PIXELS, NAME, Survey
from ttr.apps.image.intake import MOST_OF_STACK
from ttr.apps.image.readers import READERS
from ttr.apps.image.uploads import content_of
from ttr.datasets.dicom.series import distances
from ttr.errors import ImageError
from ttr.wording import counted, shortened

#: Files that are looked at together.
MOST_FILES = 500


@dataclass(frozen=True)
class Source:
    """A file that was given: where it lies, its name, and what it is."""

    path: str
    name: str
    survey: Survey


@dataclass(frozen=True)
class Series:
    """Files of one series, in their order.

    Attributes:
        label: kind, size, how many images, and the series' number: what tells it from the others.
        images: (file's place in ``sources``, frame from 1 on) of each image, in the order of the stack.
        sources: the files.
        order: how that order was found, in words.
        in_space: whether the images lie one behind another in the patient.
        rate: frames a second that a file recommends, or None.
    """

    label: str
    images: tuple[tuple[int, int], ...]
    sources: tuple[Source, ...]
    order: str
    in_space: bool
    rate: float | None

    @property
    def is_stack(self) -> bool:
        """Whether there is more than one image."""
        return len(self.images) > 1


@dataclass(frozen=True)
class Given:
    """What a visitor gave at once: its series, the largest first, and a sentence on files that are none."""

    series: tuple[Series, ...]
    refused: str = ""


def given(paths: Sequence[str]) -> Given:
    """Return the series among some files.

    Raises:
        ImageError: too many files, or none of them is an image: then the first one's refusal.
    """
    if len(paths) > MOST_FILES:
        raise ImageError(f"got {len(paths)} files; needed {MOST_FILES} at most: give one series at a time")
    sources, refused = [], []
    for path in paths:
        try:
            sources.append(_source(path))
        except ImageError as error:
            refused.append((Path(path).name, error))
    if not sources:
        raise refused[0][1]
    groups: dict[object, list[Source]] = {}
    for source in sources:
        groups.setdefault(_key(source.survey), []).append(source)
    found = sorted(map(_series, groups.values()), key=lambda each: -len(each.images))
    return Given(_told_apart(found), _said_of(refused, len(paths)))


def _source(path: str) -> Source:
    survey = READERS.survey(content_of(path, MOST_OF_STACK, NAME))
    return Source(path, Path(path).name, survey)


def _key(survey: Survey) -> object:
    member = survey.member
    return survey.kind, member.series, member.modality, member.size, member.aspect


def _series(sources: list[Source]) -> Series:
    """Return files in the order of their places in the patient, else of their numbers, else by name."""
    sources = sorted(sources, key=lambda each: natural(each.name))
    members = [each.survey.member for each in sources]
    along = distances(members)
    instances = [each.instance for each in members]
    if along is not None:
        order = "by their place in the patient"
        places = [(distance, n, f) for n, each in enumerate(along) for f, distance in enumerate(each)]
    elif None not in instances and len(sources) > 1 and len(set(instances)) > 1:
        order = "by their numbers in the series"
        places = [(number or 0, n, f) for n, number in enumerate(instances) for f in range(members[n].frames)]
    else:
        order = "by name" if len(sources) > 1 else "as the file has them"
        places = [(0, n, f) for n, each in enumerate(members) for f in range(each.frames)]
    images = tuple((n, frame + 1) for _, n, frame in sorted(places))
    rate = next((each.rate for each in members if each.rate), None)
    return Series(
        _label(sources[0].survey, len(images)), images, tuple(sources), order, along is not None, rate
    )


def _label(survey: Survey, images: int) -> str:
    member = survey.member
    width, height = member.size
    kind = member.modality or survey.kind
    number = [] if member.number is None else [f"series {member.number}"]
    return ", ".join([kind, f"{width} × {height}", counted(images, "image"), *number])


def _told_apart(found: list[Series]) -> tuple[Series, ...]:
    """Return series of different labels: those that read alike are counted."""
    from dataclasses import replace

    seen: dict[str, int] = {}
    named = []
    for each in found:
        seen[each.label] = count = seen.get(each.label, 0) + 1
        named.append(each if count == 1 else replace(each, label=f"{each.label} ({count})"))
    return tuple(named)


def _said_of(refused: list[tuple[str, ImageError]], of: int) -> str:
    if not refused:
        return ""
    name, why = refused[0]
    more = f", and {counted(len(refused) - 1, 'other')}" if len(refused) > 1 else ""
    return f"Of {counted(of, 'file')} {shortened(name)}{more} cannot be opened and is left out: {why}."


def natural(name: str) -> list[tuple[int, int, str]]:
    """Return what orders names as a person does: slice 2 before slice 10."""
    parts = re.split(r"(\d{1,15})", name.casefold())
    return [(1, int(part), "") if part.isdecimal() and part.isascii() else (0, 0, part) for part in parts]


def check_extent(series: Series) -> None:
    """Raise ImageError for more images, or more pixels of all together, than a stack may have."""
    images, (width, height) = len(series.images), series.sources[0].survey.member.size
    if images > MOST_SLICES:
        raise ImageError(
            f"this series has {images:,} images; needed {MOST_SLICES} at most: give a part of it"
        )
    if images > 1 and images * width * height > MOST_STACK_PIXELS:
        raise ImageError(
            f"this series has {images * width * height / 1e6:,.0f} million pixels in {images:,} images; "
            f"needed {MOST_STACK_PIXELS / 1e6:,.0f} million at most: give a part of it"
        )
