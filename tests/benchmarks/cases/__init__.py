"""The cases by name: a function of the settings that yields what it measured, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.benchmarks.cases import (
    ablation,
    attribution,
    bench,
    detection,
    embed,
    faithfulness,
    files,
    forward,
    looking,
    near_duplicates,
    page,
    scale,
)
from tests.benchmarks.results import Row
from tests.benchmarks.settings import Settings

Case = Callable[[Settings], Iterator[Row]]
#: In the order in which they run.
CASES: dict[str, Case] = {
    "forward": forward.forward,
    "detection": detection.detection,
    "norms": looking.norms,
    "attention": looking.attention,
    "attribution": attribution.attribution,
    "faithfulness": faithfulness.faithfulness,
    "files": files.files,
    "embed": embed.embed,
    "page": page.page,
    "scale": scale.scale,
    "bench": bench.bench,
    "ablation": ablation.ablation,
    "near-duplicates": near_duplicates.near_duplicates,
}
