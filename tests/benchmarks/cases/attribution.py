"""What a map costs: each method that asks a gradient, to one forward and backward pass of the same score.

That pass asks the gradient of the pixels and of no weight, as whoever explains an answer does.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

import ttr
from tests.benchmarks import models
from tests.benchmarks.cases.forward import described
from tests.benchmarks.raced import Against, rows
from tests.benchmarks.results import Row
from tests.benchmarks.settings import Settings
from ttr.backbones import Backbone

MOST = 3.0
PASS = "forward and backward"
METHODS = ("gradient-rollout", "chefer", "legrad", "gradcam", "input-gradient")
CHEAP = ("attention", "value-attention", "rollout")


def attribution(settings: Settings) -> Iterator[Row]:
    """Yield the time of each method to that of the pass, bare and with one register."""
    for key in settings.models:
        for dtype in settings.dtypes:
            bare = models.build(key, settings.device, dtype)
            for registers in (0, 1):
                backbone = models.wrapped(key, bare, "ttr", 1) if registers else bare
                for batch in settings.batches:
                    yield from _raced(settings, key, dtype, backbone, batch, registers)


def _raced(
    settings: Settings, key: str, dtype: str, backbone: Backbone, batch: int, registers: int
) -> Iterator[Row]:
    images = models.pictures(backbone, batch, settings.seed)
    width = backbone.embed(images[:1]).shape[1]
    head = nn.Linear(width, 10).requires_grad_(False).to(backbone.device)
    tasks = {PASS: partial(forward_and_backward, backbone, images, head)}
    for method in ("chefer", "legrad") if settings.quick else (*METHODS, *CHEAP):
        asked = {} if method in CHEAP else {"target": 1, "head": head}
        name = f"{method} R=1" if registers else method
        tasks[name] = partial(ttr.attribute, backbone, images, method=method, batch_size=batch, **asked)
    asked = [
        Against(name, PASS, None if name.split()[0] in CHEAP else MOST) for name in tasks if name != PASS
    ]
    common = {**described(key, dtype, images), "case": "attribution"}
    yield from rows(settings, tasks, asked, settings.host_clock, **common)


def forward_and_backward(backbone: Backbone, images: Tensor, head: nn.Linear) -> Tensor:
    """Return the gradient of a class's logit at the pixels."""
    given = images.detach().clone().requires_grad_()
    score = head(backbone.features(given).float())[:, 1].sum()
    return torch.autograd.grad(score, given)[0]
