"""Reader studies without a model: one in memory, or a folder with small pictures of noise."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ttr.digests import sha256
from ttr.files import MANIFEST, write_json
from ttr.studies.reading.design import PERTURBED, plan
from ttr.studies.reading.folder import KEY, Case, Key, Study, read_study, sealed
from ttr.studies.reading.pictures import png
from ttr.studies.reading.settings import CONDITIONS, ReadingSettings
from ttr.studies.schemas import READING
from ttr.wording import DISCLAIMER

MADE_WITH = {
    "ttr": "0",
    "backbone": {"name": "made", "weights": "none", "image_size": [64, 64]},
    "warning": None,
    "disclaimer": DISCLAIMER,
}


def study_of(cases: int, seed: int = 0, *, truth: bool = True, **settings: Any) -> Study:
    """Return a study of images that lie nowhere; every second one has the truth yes."""
    asked = ReadingSettings(**settings)
    numbers = iter(range(10**6))
    names = (*CONDITIONS, PERTURBED)
    known = asked.answers if truth else ("", "")
    made = [
        Case(
            name=f"patient-{number}.png",
            truth=known[number % 2],
            pictures={name: f"picture-{number:08x}{place:08x}.png" for place, name in enumerate(names)},
            perturbed="random",
        )
        for number in range(cases)
    ]
    trials = plan(cases, asked, seed, lambda: f"{next(numbers):016x}")
    codes = {f"R{number}": f"R{number}-code" for number in range(1, asked.readers + 1)}
    return Study(Path("nowhere"), asked, Key(cases=made, trials=trials, codes=codes, seed=seed), MADE_WITH)


def study_in(folder: Path, cases: int = 3, seed: int = 0, **settings: Any) -> Study:
    """Write such a study with pictures whose files differ in size, and read it back."""
    made = study_of(cases, seed, **settings)
    random = np.random.default_rng(seed)
    for case in made.key.cases:
        for place, name in enumerate(case.pictures.values()):
            noise = random.integers(0, 2 * (place + 1) ** 3, (12, 16, 3))
            (folder / name).write_bytes(png((40 * place + noise).astype(np.uint8)))
    content = sealed(made.key)
    (folder / KEY).write_bytes(content)
    manifest = {
        "schema": READING,
        "files": [KEY],
        "key_sha256": sha256([content]),
        "settings": asdict(made.settings),
        "provenance": MADE_WITH,
    }
    write_json(folder / MANIFEST, manifest)
    return read_study(folder)
