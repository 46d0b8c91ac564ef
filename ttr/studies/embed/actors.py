"""Shards written by the machines of a Ray cluster: actors hold the model, each writes whole shards.

Where one is killed, or its machine is gone, another one starts and writes its shard.
"""

from __future__ import annotations

import logging
import os
import platform
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from ttr.errors import DataError, ModelError, OptionError, OutputError, TTRError
from ttr.progress import Advance
from ttr.studies.embed.machines import Machines
from ttr.studies.embed.plan import Shard, read_plan
from ttr.studies.embed.work import Named, Work
from ttr.version import __version__

#: How often a shard is tried again whose worker was killed.
TRIES = 3


class ShardWriter:
    """A worker on some machine: it holds the model, and writes one whole shard after another."""

    def __init__(self, work: Work, device: str) -> None:
        work.rows.backbone.model.to(device)
        self.work = work

    def write(self, shard: Shard, images: Sequence[Named]) -> TTRError | None:
        """Write a shard of these images; return the refusal, if there is one.

        An exception would come back as a text with this process's traceback.
        """
        try:
            self._check_place()
            self.work.write(
                [shard],
                lambda start, end: images[start - shard.start : end - shard.start],
                lambda done: None,
            )
        except TTRError as error:
            return error
        return None

    def _check_place(self) -> None:
        """Raise OutputError unless this machine sees the folder, and has the version that began it."""
        plan, here = self.work.plan, platform.node()
        if plan.decides["ttr"] != __version__:
            raise OutputError(
                f"machine {here} has ttr {__version__}, and the run was begun with {plan.decides['ttr']}; "
                "install the same version on every machine"
            )
        try:
            seen = read_plan(self.work.out).digest
        except DataError:
            seen = ""
        if seen != plan.digest:
            raise OutputError(
                f"machine {here} does not see what was begun in {self.work.out}; choose an --out that all "
                "machines share under one path"
            )


def write_on_machines(
    work: Work,
    shards: Sequence[Shard],
    named: Callable[[int, int], Sequence[Named]],
    machines: Machines,
    advance: Advance,
) -> None:
    """Have a cluster write shards, each whole or not at all.

    The rest is what :meth:`ttr.studies.embed.work.Work.write` takes.

    Raises:
        OptionError: there is no such cluster, or it has no GPU where one is asked for.
        ModelError: the model cannot be sent to another process.
        TTRError: what a worker refuses, or a shard whose worker is killed again and again.
    """
    device = work.run.device or work.rows.backbone.device.type
    machines.check_answers()
    with _connected(machines.address) as ray:
        count = machines.actors or default_actors([x["Resources"] for x in ray.nodes() if x["Alive"]], device)
        try:
            sent = ray.put(replace(work, run=replace(work.run, say=None, progress=False)))
        except TypeError as error:
            raise ModelError(
                f"this model cannot be sent to another machine ({error}); leave the engine ray out"
            ) from error
        writer = ray.remote(ShardWriter).options(
            num_cpus=1, num_gpus=int(device == "cuda"), scheduling_strategy="SPREAD"
        )
        start = partial(writer.remote, sent, device)
        for shard, refusal in _written(ray, start, min(count, len(shards)), shards, named):
            if refusal is not None:
                raise refusal
            advance(shard.end - shard.start)


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


def _written(
    ray: Any,
    start: Callable[[], Any],
    count: int,
    shards: Sequence[Shard],
    named: Callable[[int, int], Sequence[Named]],
) -> Iterator[tuple[Shard, TTRError | None]]:
    """Yield each shard when its worker is done with it, and what it refuses; ``start`` makes a worker."""
    left, killed = deque(shards), Counter[Shard]()
    idle = deque(start() for _ in range(count))
    at_work: dict[Any, tuple[Shard, Any]] = {}
    while left or at_work:
        while idle and left:
            shard, actor = left.popleft(), idle.popleft()
            images = [_anywhere(each) for each in named(shard.start, shard.end)]
            at_work[actor.write.remote(shard, images)] = shard, actor
        # One that has nothing left to do ends here, and makes room for one that must start again.
        idle.clear()
        (done,), _ = ray.wait([*at_work], num_returns=1)
        shard, actor = at_work.pop(done)
        try:
            refusal = ray.get(done)
        except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
            killed[shard] += 1
            if killed[shard] > TRIES:
                why = str(error).strip().splitlines()[-1][:300]
                raise TTRError(
                    f"the worker for {shard.name} did not start, or was killed {TRIES + 1} times ({why}); "
                    "the other shards stay: mend that and run again"
                ) from error
            left.appendleft(shard)
            actor = start()
        else:
            yield shard, refusal
        idle.append(actor)
        del actor


def _anywhere(image: Named) -> Named:
    """Return an image whose file is found from whatever folder a process works in."""
    if image.entry.address:
        return image
    return image._replace(entry=replace(image.entry, file=os.path.join(os.getcwd(), image.entry.file)))


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
