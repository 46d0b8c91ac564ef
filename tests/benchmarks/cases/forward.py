"""What a wrap adds to a forward pass: by model, type, batch, number of registers and way to run the model.

The bare model is the library's own call without a check of ours; every arm is a second model around the same
weights (``copy()``), as a server keeps it, so nothing is installed or removed while the clock runs. Beside
them stand ``Backbone.embed`` of the bare model (its checks), as many blank tokens, and the predecessor's way
of working: one image a pass, with unfused attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.benchmarks import memory, models
from tests.benchmarks.limit import flops
from tests.benchmarks.raced import Against, rows
from tests.benchmarks.results import LeftOut, Row
from tests.benchmarks.settings import Settings
from ttr.backbones import Backbone

PREDECESSOR = "one image a pass, unfused"
EMBED = "embed, bare"
#: Beyond that, one image a pass takes so long that all else would wait for it.
MOST_BY_ITEM = 8


def forward(settings: Settings) -> Iterator[Row]:
    """Yield the forward table."""
    for key in settings.models:
        for dtype in settings.dtypes:
            bare = models.build(key, settings.device, dtype)
            wraps = {
                name: models.wrapped(key, bare, *arm) for name, arm in models.arms(settings, key).items()
            }
            peaks = resident_peaks(settings, key, dtype)
            for batch in settings.batches:
                images = models.pictures(bare, batch, settings.seed)
                common = {
                    **described(key, dtype, images),
                    "case": "forward",
                    "flops": flops(bare, images),
                }
                for way in settings.ways:
                    yield from _one(settings, wraps, images, peaks.get(batch, {}), {**common, "way": way})


def described(key: str, dtype: str, images: Tensor) -> dict[str, Any]:
    """Return the fields that say what runs on what."""
    model = models.MODELS[key]
    return {
        "model": model.name,
        "library": model.library,
        "dtype": dtype,
        "pixels": images.shape[-1],
        "batch": len(images),
        "images": len(images),
    }


def _one(
    settings: Settings,
    wraps: dict[str, Backbone],
    images: Tensor,
    peaks: dict[str, float],
    common: dict[str, Any],
) -> Iterator[Row]:
    """Yield the rows of one batch and one way."""
    way = common["way"]
    if way == "compiled":  # each takes a minute
        wraps = {name: wrap for name, wrap in wraps.items() if name == "bare" or (_count(name) or 0) > 0}
    tasks: dict[str, Callable[[], Any]] = {}
    for name, wrap in wraps.items():
        try:
            tasks[name] = WAYS[way](wrap, images)
        except Exception as error:
            what = f"{common['model']} {common['dtype']} batch {common['batch']} {way}, {name}"
            yield LeftOut(case="forward", what=what, reason=f"{type(error).__name__}: {_first_line(error)}")
            if name == "bare":
                return
    if way == "eager":
        tasks[EMBED] = partial(wraps["bare"].embed, images)
    if way == "eager" and len(images) <= MOST_BY_ITEM:
        tasks[PREDECESSOR] = partial(item_by_item, models.forward(_moved(wraps)), images)
    if settings.on_gpu and way == "eager":
        peaks = {name: memory.allocated(task, settings.device) for name, task in tasks.items()}
    most = target(settings, way, len(images))
    moved = [name for name in tasks if name.startswith("ttr")]
    asked = [Against(name, "bare", most if name in moved else None, _count(name)) for name in tasks]
    blanks = {name: name.replace("ttr", "blank") for name in moved}
    asked += [Against(own, blank, 1.02, _count(own)) for own, blank in blanks.items() if blank in tasks]
    yield from rows(settings, tasks, asked[1:], peaks=peaks, **common)


def target(settings: Settings, way: str, batch: int) -> float:
    """Return what a wrapped pass may cost at most, to a bare one."""
    if not settings.on_gpu:
        return 1.05
    return {"graph": 1.04, "compiled": 1.02}.get(way, 1.10 if batch == 1 else 1.04)


def eager(backbone: Backbone, images: Tensor) -> Callable[[], Any]:
    """Return the pass as a task."""
    return partial(models.forward(backbone), images)


def compiled(backbone: Backbone, images: Tensor) -> Callable[[], Any]:
    """Return a pass of the compiled model (of CLIP, the image tower) as a task."""
    tower = torch.compile(backbone.sites.tower, dynamic=False)
    task = partial(torch.no_grad()(tower.__call__), images)
    task()  # compiled here, and in no race
    return task


def graphed(backbone: Backbone, images: Tensor) -> Callable[[], Any]:
    """Return the replay of the pass, captured in a CUDA graph."""
    call = models.forward(backbone)
    if images.device.type != "cuda":
        raise RuntimeError("a CUDA graph needs a CUDA device")
    aside = torch.cuda.Stream(images.device)
    aside.wait_stream(torch.cuda.current_stream(images.device))
    with torch.cuda.stream(aside):
        for _ in range(3):
            call(images)
    torch.cuda.current_stream(images.device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call(images)
    return graph.replay


WAYS: dict[str, Callable[[Backbone, Tensor], Callable[[], Any]]] = {
    "eager": eager,
    "graph": graphed,
    "compiled": compiled,
}


def item_by_item(call: Callable[[Tensor], Any], images: Tensor) -> list[Any]:
    """Pass the images one by one with unfused attention, as the predecessors' code does."""
    with sdpa_kernel(SDPBackend.MATH):
        return [call(image) for image in images.split(1)]


def resident_peaks(settings: Settings, key: str, dtype: str) -> dict[int, dict[str, float]]:
    """Return peak MiB by batch and arm, each in a process of its own; none on a GPU or where not asked."""
    found: dict[int, dict[str, float]] = {batch: {} for batch in settings.batches}
    if settings.on_gpu or not settings.memory:
        return found
    for name, (arm, registers) in models.arms(settings, key).items():
        rises = memory.resident(key, dtype, arm, registers, settings.batches)
        for batch, rise in rises.items():
            found[batch][name] = rise
    return found


def _moved(wraps: dict[str, Backbone]) -> Backbone:
    """Return the arm that the predecessors run: one register where there is one, else what is nearest."""
    return next((wraps[name] for name in ("ttr R=1", "ttr R=4") if name in wraps), wraps["bare"])


def _count(name: str) -> int | None:
    return int(name.partition("R=")[2]) if "R=" in name else None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
