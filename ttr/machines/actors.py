"""Work done by the machines of a Ray cluster: actors hold the model, each does one piece after another.

Where one is killed, or its machine is gone, another one starts and does its piece.
"""

from __future__ import annotations

import logging
import os
import platform
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from ttr.errors import ModelError, OptionError, OutputError, TTRError
from ttr.machines.cluster import Machines
from ttr.version import __version__

#: How often a piece is tried again whose worker was killed.
TRIES = 3


class Job(ABC):
    """What workers do: it is sent to each of them once, and then a piece at a time."""

    @abstractmethod
    def move(self, device: str) -> None:
        """Bring the model to a worker's device."""

    @abstractmethod
    def do(self, piece: Any) -> None:
        """Write what a piece of the work comes to, whole or not at all; raises TTRError."""


class Worker:
    """A process on some machine: it holds the model, and does one piece after another.

    It works in the folder ``place``, if there is one here, so that a relative path means what it means there.
    """

    def __init__(self, job: Job, device: str, place: str, version: str) -> None:
        with suppress(OSError):
            os.chdir(place)
        self.job, self.version = job, version
        job.move(device)

    def do(self, piece: Any) -> TTRError | None:
        """Do a piece; return the refusal, if there is one.

        An exception would come back as a text with this process's traceback.
        """
        try:
            if self.version != __version__:
                raise OutputError(
                    f"machine {platform.node()} has ttr {__version__}, and the run was begun with "
                    f"{self.version}; install the same version on every machine"
                )
            self.job.do(piece)
        except TTRError as error:
            return error
        return None


def done_by_machines(
    job: Job,
    pieces: Sequence[Any],
    machines: Machines,
    device: str,
    *,
    told: Callable[[Any], Any] = lambda piece: piece,
) -> Iterator[Any]:
    """Have a cluster do pieces of work, and yield each when it is done, in any order.

    Args:
        job: what is done.
        pieces: its pieces, such as numbers; ``str`` of one is its name for people.
        machines: the cluster.
        device: of the workers, ``cpu`` or ``cuda``.
        told: piece -> what a worker is given of it.

    Raises:
        OptionError: there is no such cluster, or it has no GPU where one is asked for.
        ModelError: the work cannot be sent to another process.
        TTRError: what a worker refuses, or a piece whose worker is killed again and again.
    """
    machines.check_answers()
    with _connected(machines.address) as ray:
        count = machines.actors or default_actors([x["Resources"] for x in ray.nodes() if x["Alive"]], device)
        try:
            sent = ray.put(job)
        except TypeError as error:
            raise ModelError(
                f"this model cannot be sent to another machine ({error}); leave the engine ray out"
            ) from error
        worker = ray.remote(Worker).options(
            num_cpus=1, num_gpus=int(device == "cuda"), scheduling_strategy="SPREAD"
        )
        start = partial(worker.remote, sent, device, str(Path.cwd()), __version__)
        for piece, refusal in _done(ray, start, min(count, len(pieces)), pieces, told):
            if refusal is not None:
                raise refusal
            yield piece


def default_actors(machines: Iterable[Mapping[str, float]], device: str) -> int:
    """Return how many actors a cluster has room for, from what each of its machines has.

    Raises:
        OptionError: none: there is no GPU, or no CPU.
    """
    if device == "cuda":
        count = sum(int(each.get("GPU", 0)) for each in machines)
    else:
        count = sum(max(int(each["CPU"]) - 1, 1) for each in machines if each.get("CPU", 0) >= 1)
    if not count:
        raise OptionError(
            f"the Ray cluster has no machine with a {'GPU' if device == 'cuda' else 'CPU'} to compute with; "
            "add one with ray start, or choose another --device"
        )
    return count


def _done(
    ray: Any, start: Callable[[], Any], count: int, pieces: Sequence[Any], told: Callable[[Any], Any]
) -> Iterator[tuple[Any, TTRError | None]]:
    """Yield each piece when its worker is done with it, and what it refuses; ``start`` makes a worker."""
    left, killed = deque(pieces), Counter[Any]()
    idle = deque(start() for _ in range(count))
    at_work: dict[Any, tuple[Any, Any]] = {}
    while left or at_work:
        while idle and left:
            piece, actor = left.popleft(), idle.popleft()
            at_work[actor.do.remote(told(piece))] = piece, actor
        # One that has nothing left to do ends here, and makes room for one that must start again.
        idle.clear()
        (done,), _ = ray.wait([*at_work], num_returns=1)
        piece, actor = at_work.pop(done)
        try:
            refusal = ray.get(done)
        except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
            killed[piece] += 1
            if killed[piece] > TRIES:
                why = str(error).strip().splitlines()[-1][:300]
                raise TTRError(
                    f"the worker for {piece} did not start, or was killed {TRIES + 1} times ({why}); "
                    "what the others did stays: mend that and run again"
                ) from error
            left.appendleft(piece)
            actor = start()
        else:
            yield piece, refusal
        idle.append(actor)
        del actor


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Yield Ray, connected to a cluster; without an address to one of this machine alone.

    Raises:
        OptionError: no cluster answers.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it is read when Ray is imported
    import ray

    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        quiet |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(address or "local", **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise OptionError(
            f"no Ray cluster can be joined at {address or 'this machine'} ({error}); needed the Ray and "
            "Python that it has, and RAY_AUTH_MODE=token with its token where it asks for one"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()
