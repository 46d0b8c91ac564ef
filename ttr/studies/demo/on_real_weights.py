"""The demonstration on real weights: a DINOv2-S as it is, with planted artifacts, and with a register.

The real model shows what its maps are worth. It has hardly any outliers of its own, small models do not; so
artifacts are planted in it (:mod:`ttr.backbones.phantoms.hybrid`), and its own maps are the truth against
which detection and the register are held.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ttr.analysis.faithfulness import Trust, grade
from ttr.backbones import load
from ttr.backbones.phantoms.hybrid import HYBRIDS
from ttr.datasets.photographs import photograph_paths
from ttr.datasets.registry import in_memory, open_image
from ttr.drawing.maps import finish
from ttr.drawing.restored import draw_restored
from ttr.registers.detection import detect
from ttr.run import Run, check_dtype
from ttr.studies.compare.write import Figure, Page, write_comparison
from ttr.studies.demo.found import Demo, Detected
from ttr.studies.demo.look import draw_looks, look_at
from ttr.studies.plant.picture import restored
from ttr.studies.schemas import DEMO

if TYPE_CHECKING:
    from PIL.Image import Image

TITLE = "Test-time registers: a real DINOv2, planted artifacts, and what brings its maps back"
PHANTOM, SIDE = "phantom-dinov2", 518
#: The samples, then photographs as far as installed packages ship them.
WANTED, SHOWN = ("fundus", "chest", "astronaut", "horse", "coffee", "chelsea", "grace_hopper", "rocket"), 5


def on_real_weights(out: Path, *, dtype: str = "float32", progress: bool = True) -> Demo:
    """Run the demonstration into folder ``out``.

    Raises:
        ModelError: the installed weights are others than they should be.
        OutputError: ``out`` cannot be written.
    """
    start = time.perf_counter()
    kind = getattr(torch, check_dtype(dtype))
    original = load(HYBRIDS[PHANTOM].base, pretrained=True, image_size=SIDE, dtype=kind)
    planted = load(PHANTOM, image_size=SIDE, dtype=kind)
    images = _images()
    looks = look_at(original, images)
    own = detect(original, images.values(), batch_size=2, progress=progress)
    found = Detected.of(
        detect(planted, images.values(), batch_size=2, progress=progress), planted.planted, len(images)
    )
    rows = restored(original, planted, images)
    trust = Trust.mean(look.trust for look in looks)
    before, after = (float(np.mean([getattr(r, f"{w}_cosine") for r in rows])) for w in ("planted", "after"))
    as_it_is = Figure(
        "A real model as it is: DINOv2 ViT-S/14",
        draw_looks(looks),
        f"Weights: {original.weights}. Attention of CLS (last block, mean of the heads), patch norms and "
        f"patches as colours. Mean faithfulness {trust.amount:.2f}: {grade(trust)}. Its register "
        f"neurons: {own.message}.",
    )
    comes_back = Figure(
        "The truth, what artifacts make of it, and what comes back",
        finish(draw_restored(rows)),
        "The same model with planted artifacts; its own maps are the truth. Cosine of the map with them: "
        f"planted {before:.2f}, with one test-time register {after:.3f} (means).",
    )
    extra = {
        "schema": DEMO,
        "warning": planted.warning,
        "detection": found.to_json(),
        "real": {
            "weights": str(original.weights),
            "detection": own.message,
            "faithfulness": {look.name: look.trust.amount for look in looks},
        },
        "map_cosine": {row.name: {"planted": row.planted_cosine, "after": row.after_cosine} for row in rows},
    }
    answer = (
        f"the real model's maps are {grade(trust)} (mean {trust.amount:.2f}); planted artifacts leave a map "
        f"cosine of {before:.2f} with them, one test-time register brings back {after:.3f}"
    )
    compared = write_comparison(
        planted,
        found.neurons,
        in_memory(images),
        out,
        run=Run(batch_size=2, progress=progress),
        page=Page(TITLE, answer, "results.json", DEMO, extra, (as_it_is, comes_back)),
    )
    return Demo(found, compared.images, time.perf_counter() - start, answer)


def _images() -> dict[str, Image]:
    """Return the samples and so many photographs as are shown beside them, those that are there."""
    paths = photograph_paths()
    return {name: open_image(paths[name]) for name in [name for name in WANTED if name in paths][:SHOWN]}
