"""What a run of the benchmarks measures, as data: the defaults of a CPU and of a GPU, and ``--quick``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from tests.benchmarks.racing import Budget, Clock, event_clock, processor_clock, wall_clock
from ttr.run import SHORT


@dataclass(frozen=True)
class Settings:
    """How the cases run.

    Attributes:
        device: where the models compute.
        dtypes: in which types, ``fp32``, ``bf16``, ``fp16``.
        models: keys of :data:`tests.benchmarks.models.MODELS`.
        batches: images a pass.
        registers: R, of test-time registers and of blank tokens; 0 zeroes the neurons.
        ways: eager, graph (CUDA), compiled.
        images: that a detection sees.
        backbone: of the cases about files and the page, a name of ``ttr.load``.
        budget: of a race.
        seed: of orders, draws and resamples.
        clock: ``"wall"``, or ``"cpu"``: processor seconds of this process.
        memory: whether peaks are measured on a CPU, where each is a process of its own.
        quick: whether what takes minutes is left out.
        until: no race begins after that, of :func:`time.monotonic`.
    """

    device: str = "cpu"
    dtypes: tuple[str, ...] = ("fp32",)
    models: tuple[str, ...] = ("timm-s", "timm-b", "open_clip-b", "transformers-b")
    batches: tuple[int, ...] = (1, 8)
    registers: tuple[int, ...] = (0, 1, 4)
    ways: tuple[str, ...] = ("eager",)
    images: tuple[int, ...] = (64,)
    backbone: str = "timm:vit_base_patch16_224"
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    clock: str = "wall"
    memory: bool = True
    quick: bool = False
    until: float = float("inf")

    @property
    def on_gpu(self) -> bool:
        """Whether the models compute on a CUDA device."""
        return torch.device(self.device).type == "cuda"

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    @property
    def host_clock(self) -> Clock:
        """The clock for tasks that also work on the host."""
        return processor_clock() if self.clock == "cpu" else wall_clock(self.synchronize)

    @property
    def pass_clock(self) -> Clock:
        """The clock for forward passes."""
        return event_clock(self.device) if self.on_gpu else self.host_clock


def torch_dtype(name: str) -> torch.dtype:
    """Return the type that is called so for short."""
    found: Any = getattr(torch, SHORT.get(name, name))
    return found


QUICK: dict[str, Any] = {
    "models": ("timm-s",),
    "batches": (1,),
    "images": (2,),
    "backbone": "phantom",
    "budget": Budget(seconds=2.5, fewest=4, most=12, sample=0.005),
    "memory": False,
    "quick": True,
}
#: The whole GPU table, most wanted first (:mod:`tests.benchmarks.session`).
ON_GPU: dict[str, Any] = {
    "dtypes": ("bf16",),
    "models": ("open_clip-b", "timm-l"),
    "batches": (1, 8, 64, 256),
    "ways": ("eager", "graph"),
    "images": (192, 2000),
    "budget": Budget(seconds=2.0, fewest=10, most=30, sample=0.02),
}
