"""The page: when it is ready, what a comparison costs to two bare passes, what looking another way costs.

The server's share alone; the browser's comes on top. Nothing that was computed of an image is kept between
two comparisons.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.raced import Against, rows
from tests.benchmarks.results import Row, Tabled
from tests.benchmarks.settings import Settings
from tests.tools.app_page import serve_page
from ttr.apps.html import panels
from ttr.apps.html.panels import Look
from ttr.apps.image.intake import take_in
from ttr.apps.image.workbench import Chosen, Workbench
from ttr.backbones import load
from ttr.datasets.registry import sample_paths
from ttr.registers.neurons import RegisterNeurons


def page(settings: Settings) -> Iterator[Row]:
    """Yield the rows of the phantom and, if it is another, the backbone of the settings."""
    for name in dict.fromkeys(("phantom", settings.backbone)):
        yield from _compared(settings, name)
    if not settings.quick:
        starts = tuple((number, _ready()) for number in range(1, 4))
        title = "Seconds from the command's start to ready, with the phantom; target at most 6"
        yield Tabled(case="page", title=title, columns=("start", "seconds"), rows=starts)


@torch.no_grad()
def _compared(settings: Settings, name: str) -> Iterator[Row]:
    backbone = load(name, device=settings.device)
    workbench = Workbench({name: lambda: backbone})
    pairs = backbone.planted or [(layer, index) for layer in (1, 2) for index in range(10)]
    chosen = Chosen(name, "given", RegisterNeurons.from_pairs(pairs))
    picture = take_in(sample_paths()["chest"])
    batch = backbone.preprocess(picture.image)[None].to(backbone.device)
    tasks = {
        "two bare passes": lambda: [backbone.embed(batch) for _ in range(2)],
        "a comparison": partial(_shown, workbench, picture, chosen),
    }
    asked = [Against("a comparison", "two bare passes", 2.0)]
    yield from rows(settings, tasks, asked, settings.host_clock, case="page", model=name, batch=1, images=1)
    yield _looks(settings, name, workbench.case(picture, chosen))


def _looks(settings: Settings, name: str, case: Any) -> Tabled:
    """Return what another block's maps cost, from what was computed."""
    last = case.inspection.layers
    looks = (partial(panels.attention, case, Look(block)) for block in range(last))
    each = [1000 * settings.host_clock(look, 1) for look in looks]
    title = (
        "Milliseconds of the server for the maps of another block, which the browser paints beforehand; "
        "target at most 100"
    )
    row = (name, statistics.median(each), max(each))
    return Tabled(case="page", title=title, columns=("model", "median", "most"), rows=(row,))


def _shown(workbench: Workbench, picture: Any, chosen: Chosen) -> None:
    """Compute all that the page shows of an uploaded image."""
    case = workbench.case(picture, chosen)
    look = Look(case.inspection.layers - 1)
    for panel in (panels.attention, panels.norms, panels.colours):
        panel(case, look)
    panels.numbers(case)


def _ready() -> float:
    """Return the seconds until the page is ready."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        with serve_page(Path(folder)):
            return time.perf_counter() - start
