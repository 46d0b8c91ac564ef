"""A reader study as a folder: every map computed and drawn before the first reader comes.

What it holds is said in :mod:`ttr.studies.reading.folder`. It appears under its name only when it is
complete, and once a reader has answered it is replaced by nothing.
"""

from __future__ import annotations

import csv
import io
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ttr.backbones.base import Backbone
from ttr.datasets.registry import OpenedImages, ReadAhead
from ttr.digests import sha256
from ttr.errors import DataError, ImageError
from ttr.evaluate.placement import Placement, placement
from ttr.files import MANIFEST, read_bytes, write_bytes, write_json, write_text
from ttr.registers.neurons import RegisterNeurons
from ttr.run import Run
from ttr.studies.compare.comparison import ImageComparison, compare
from ttr.studies.reading.design import PERTURBED, doubles, plan
from ttr.studies.reading.folder import KEY, READERS, Case, Key, sealed
from ttr.studies.reading.pictures import PERTURBATIONS, laid_over, perturbed, png, shown
from ttr.studies.reading.settings import AFTER, BEFORE, NONE, ReadingSettings
from ttr.studies.schemas import READING, result_folder
from ttr.wording import counted

if TYPE_CHECKING:
    from PIL.Image import Image

#: Letters of a reader's code that nobody mistakes for another.
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
#: Bytes of a table of truths, at most.
MOST_TRUTH = 16 << 20


@dataclass(frozen=True)
class Prepared:
    """What was prepared.

    Attributes:
        cases: images.
        trials: of one reader, all sessions together.
        codes: {reader: the code to log in with}.
        skipped: {name: reason} of images left out.
    """

    cases: int
    trials: int
    codes: dict[str, str]
    skipped: dict[str, str]


@dataclass(frozen=True, eq=False)
class _Drawn:
    """An image of the study: its case, its pixels as they are shown, its map after, where it lies."""

    case: Case
    after: np.ndarray
    placed: Placement


def write_reading(
    backbone: Backbone,
    neurons: RegisterNeurons,
    images: OpenedImages,
    out: Path,
    settings: ReadingSettings | None = None,
    run: Run | None = None,
    truth: Mapping[str, str] | None = None,
) -> Prepared:
    """Compute the maps of images, draw every picture, and write the study ``out``.

    Args:
        backbone: the bare backbone.
        neurons: its register neurons.
        images: the images.
        out: folder to make; an earlier study without answers is replaced.
        settings: what is asked; None: the default.
        run: how; None: the default, with a seed that nobody knows.
        truth: {name of an image: the right answer}; None: it is not known.

    Raises:
        TTRError: as :func:`ttr.compare` does, fewer than two images, one without its truth, or ``out`` cannot
            be written.
    """
    settings, run = settings or ReadingSettings(), run or Run(batch_size=8, seed=drawn_seed())
    run.check(backbone)
    if truth is not None:
        _check_truth(truth, images.names, settings)
    kept, pixels = _kept(images)
    reading = ReadAhead(kept, run)
    found = compare(
        backbone,
        neurons,
        reading,
        names=reading.names,
        num_registers=settings.num_registers,
        variant=settings.variant,
        batch_size=run.batch_size,
        progress=run.progress,
    )
    with result_folder(out) as folder:
        made_with: dict[str, Any] = {}
        drawn: list[_Drawn] = []
        placements: dict[tuple[int, int], Placement] = {}
        for each in found:
            image, size = pixels.pop(each.image)
            if size not in placements:
                placements[size] = placement(backbone, size)
            drawn.append(_draw(folder, each, image, placements[size], (truth or {}).get(each.image, "")))
            made_with = dict(each.provenance)
        if len(drawn) < 2:
            raise ImageError(f"got {counted(len(drawn), 'image')}; needed two or more for a study")
        _perturb(folder, drawn, settings, run.seed)
        key = _key([each.case for each in drawn], settings, run.seed)
        _write(folder, key, settings, made_with, reading.skipped)
    return Prepared(len(drawn), len(key.trials) // settings.readers, key.codes, reading.skipped)


def drawn_seed() -> int:
    """Return a seed that nobody can guess: whoever knows it can draw every reader's order again."""
    return secrets.randbits(63)


def read_truth(path: Path) -> dict[str, str]:
    """Return {name of an image: its truth} from a CSV table with the columns ``image`` and ``truth``.

    Raises:
        DataError: it cannot be read, has other columns, or names an image twice.
    """
    try:
        text = read_bytes(path, MOST_TRUTH).decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except (OSError, ValueError, csv.Error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path} cannot be read as CSV ({why}); give a table of images and truths") from error
    if not rows or not {"image", "truth"} <= set(rows[0]):
        raise DataError(f"{path} has no columns image and truth; give a table with both, and a row an image")
    found = {str(row["image"]).strip(): str(row["truth"]).strip() for row in rows}
    if len(found) < len(rows):
        raise DataError(f"{path} names an image twice; leave one of its rows out")
    return found


def _check_truth(truth: Mapping[str, str], names: list[str], settings: ReadingSettings) -> None:
    for name in names:
        if name not in truth:
            raise DataError(f"the table of truths has no row for {name}; add it, as results call the image")
        if truth[name] not in settings.answers:
            raise DataError(
                f"the truth of {name} is {truth[name]!r}; needed one of the answers: "
                f"{', '.join(settings.answers)}"
            )


def _kept(images: OpenedImages) -> tuple[OpenedImages, dict[str, tuple[np.ndarray, tuple[int, int]]]]:
    """Return images that leave, as they are opened, what readers will see of them; {name: pixels, size}."""
    found: dict[str, tuple[np.ndarray, tuple[int, int]]] = {}

    def opened(each: Any) -> Image:
        image = images.opener(each)
        found[images.named(each)] = shown(image), (image.height, image.width)
        return image

    return replace(images, opener=opened), found


def _draw(folder: Path, each: ImageComparison, pixels: np.ndarray, placed: Placement, truth: str) -> _Drawn:
    maps = {BEFORE: each.before.maps.attention, AFTER: each.after.maps.attention}
    pictures = {NONE: pixels} | {name: laid_over(pixels, values, placed) for name, values in maps.items()}
    files = {name: _picture(folder, picture) for name, picture in pictures.items()}
    return _Drawn(Case(name=each.image, truth=truth, pictures=files, perturbed=""), maps[AFTER], placed)


def _perturb(folder: Path, drawn: list[_Drawn], settings: ReadingSettings, seed: int) -> None:
    """Give the images of catch trials a map that is not theirs."""
    from PIL import Image

    random = np.random.default_rng([seed, 3])
    for place, number in enumerate(doubles(len(drawn), settings, seed).catch):
        each, kind = drawn[number], PERTURBATIONS[place % len(PERTURBATIONS)]
        other = drawn[(number + int(random.integers(1, len(drawn)))) % len(drawn)].after
        values = perturbed(kind, each.after, other, random)
        with Image.open(folder / each.case.pictures[NONE]) as image:
            pixels = np.asarray(image)
        each.case.pictures[PERTURBED] = _picture(folder, laid_over(pixels, values, each.placed))
        each.case.perturbed = kind


def _picture(folder: Path, pixels: np.ndarray) -> str:
    name = f"picture-{secrets.token_hex(8)}.png"
    write_bytes(folder / name, png(pixels))
    return name


def _key(cases: list[Case], settings: ReadingSettings, seed: int) -> Key:
    readers = [f"R{number}" for number in range(1, settings.readers + 1)]
    codes = {reader: f"{reader}-{''.join(secrets.choice(LETTERS) for _ in range(6))}" for reader in readers}
    return Key(cases=cases, trials=plan(len(cases), settings, seed), codes=codes, seed=seed)


def _write(
    folder: Path,
    key: Key,
    settings: ReadingSettings,
    made_with: dict[str, Any],
    skipped: dict[str, str],
) -> None:
    content = sealed(key)
    write_bytes(folder / KEY, content)
    (folder / KEY).chmod(0o600)
    lines = ["reader,code", *(f"{reader},{code}" for reader, code in key.codes.items())]
    write_text(folder / READERS, "\n".join(lines) + "\n")
    (folder / READERS).chmod(0o600)
    pictures = sorted({file for case in key.cases for file in case.pictures.values()})
    manifest = {
        "schema": READING,
        "files": [KEY, READERS, *pictures],
        "key_sha256": sha256([content]),
        "settings": asdict(settings),
        "cases": len(key.cases),
        "provenance": made_with,
        **({"skipped": skipped} if skipped else {}),
    }
    write_json(folder / MANIFEST, manifest)
