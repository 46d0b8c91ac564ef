"""How a study runs, as data, the same for every study. What it measures is said in settings of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ttr.checks import integer
from ttr.errors import OptionError
from ttr.machines.cluster import Machines
from ttr.ranks import Rank

#: Floating-point types a backbone may compute in, as torch names them.
DTYPES = ("float32", "bfloat16", "float16", "float64")
#: What they are called for short.
SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "fp64": "float64"}


@dataclass(frozen=True)
class Run:
    """How a study runs.

    Attributes:
        seed: of every sample, draw and resample.
        batch_size: images a pass.
        workers: threads that read and decode ahead; of a study over millions of images, processes.
        on_error: ``"raise"``: a bad image ends the run, by name; ``"skip"``: it is left out and recorded.
        cache: folder where features, neurons and heads are kept; None: ttr/features in the user's cache.
        progress: show progress bars with an estimate.
        device: where the backbones of the study compute, such as ``"cuda:1"``; None: where they are.
        dtype: in which type, of :data:`DTYPES` or :data:`SHORT`; None: in their own.
        say: what is told people meanwhile, such as how much an earlier run has left to take up; None: nobody.
        rank: which of several processes with one cache this is; each goes the whole way and computes its own
            chunks of images, and waits for those of the others.
        machines: a Ray cluster whose workers compute, on ``device``, what is done image by image; the cache
            and the images are then where all of them see them. None: this process.

    Raises:
        OptionError: a value is outside its range.
    """

    seed: int = 42
    batch_size: int = 32
    workers: int = 2
    on_error: str = "raise"
    cache: Path | None = None
    progress: bool = False
    device: str | None = None
    dtype: str | None = None
    say: Callable[[str], None] | None = field(default=None, repr=False, compare=False)
    rank: Rank = field(default_factory=Rank)
    machines: Machines | None = None

    def __post_init__(self) -> None:
        integer("seed", self.seed, 0)
        integer("batch_size", self.batch_size, 1)
        integer("workers", self.workers, 1)
        if self.on_error not in ("raise", "skip"):
            raise OptionError(f"on_error={self.on_error!r}; needed 'raise' or 'skip'")
        if not isinstance(self.cache, str | Path | None):
            raise OptionError(f"cache={self.cache!r}; needed a folder, or None for the user's own")
        if self.cache is not None:
            object.__setattr__(self, "cache", Path(self.cache))
        if self.device is not None and not isinstance(self.device, str):
            raise OptionError(f"device={self.device!r}; needed a name such as 'cpu' or 'cuda:1'")
        if self.dtype is not None:
            object.__setattr__(self, "dtype", check_dtype(self.dtype))

    def tell(self, words: str) -> None:
        """Say something to people, where there are some."""
        if self.say is not None:
            self.say(words)

    @property
    def shelves(self) -> Path:
        """The folder of the cache, the user's own where none was named."""
        return default_cache() if self.cache is None else self.cache

    def only(self, *names: str) -> dict[str, Any]:
        """Return some of the fields as JSON values, for the record of a result."""
        return {name: getattr(self, name) for name in names}

    @property
    def shared(self) -> bool:
        """Whether others compute some of it: further processes, or machines."""
        return self.rank.count > 1 or self.machines is not None

    def alone(self) -> Run:
        """Return how a worker elsewhere runs a piece of it: without others, and without a word."""
        return replace(self, say=None, progress=False, rank=Rank(), machines=None)

    def computes_on(self, backbone: Any) -> str:
        """Return the kind of device that features come from: the backbone's here, or the machines'."""
        there = self.device if self.machines is not None else None
        return there or str(backbone.device.type)

    def check(self, backbone: Any) -> None:
        """Raise OptionError unless a backbone that was loaded already computes where and as this run says.

        Moving it would change the caller's own model, for good where the type is a coarser one.
        """
        asked = [("dtype", self.dtype, str(backbone.dtype).removeprefix("torch."))]
        if self.machines is None:
            asked.insert(0, ("device", self.device, str(backbone.device)))
        elif (device := self.computes_on(backbone)) not in ("cpu", "cuda"):
            raise OptionError(
                f"the engine ray got device {device}; needed cpu, or cuda: each worker has one GPU"
            )
        for what, wanted, given in asked:
            if wanted is not None and wanted not in (given, given.partition(":")[0]):
                raise OptionError(
                    f"the run asks for {what} {wanted}, and {backbone.name} is on {given}; load it with "
                    f"ttr.load(..., {what}=...), or leave {what} out of the run"
                )


def check_dtype(dtype: Any) -> str:
    """Return the name of a type, one of :data:`DTYPES`.

    Raises:
        OptionError: it is neither one of them nor of :data:`SHORT`.
    """
    name = SHORT.get(dtype, dtype) if isinstance(dtype, str) else dtype
    if name not in DTYPES:
        raise OptionError(f"dtype={dtype!r}; needed one of {', '.join((*DTYPES, *SHORT))}")
    return str(name)


def default_cache() -> Path:
    """Return where features are cached unless told otherwise."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "ttr" / "features"
