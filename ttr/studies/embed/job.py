"""Shards as pieces of a job that machines do (:mod:`ttr.machines.actors`)."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ttr.errors import DataError, OutputError
from ttr.machines.actors import Job, done_by_machines
from ttr.progress import Advance
from ttr.studies.embed.plan import Shard, read_plan
from ttr.studies.embed.work import Named, Work


@dataclass(frozen=True)
class ShardJob(Job):
    """Writes whole shards; a piece is a shard and its images."""

    work: Work

    def move(self, device: str) -> None:
        """Bring the model to a worker's device."""
        self.work.rows.backbone.model.to(device)

    def do(self, piece: tuple[Shard, Sequence[Named]]) -> None:
        """Write a shard of its images.

        Raises:
            OutputError: this machine does not see the folder that was begun.
            TTRError: as :meth:`ttr.studies.embed.work.Work.write`.
        """
        shard, images = piece
        try:
            seen = read_plan(self.work.out).digest
        except DataError:
            seen = ""
        if seen != self.work.plan.digest:
            raise OutputError(
                f"machine {platform.node()} does not see what was begun in {self.work.out}; choose an --out "
                "that all machines share under one path"
            )
        self.work.write(
            [shard], lambda start, end: images[start - shard.start : end - shard.start], lambda done: None
        )


def write_on_machines(
    work: Work, shards: Sequence[Shard], named: Callable[[int, int], Sequence[Named]], advance: Advance
) -> None:
    """Have the machines of its run write shards, as :meth:`ttr.studies.embed.work.Work.write` does here.

    Raises:
        TTRError: what a worker refuses, or as :func:`ttr.machines.actors.done_by_machines`.
    """
    machines, device = work.run.machines, work.run.computes_on(work.rows.backbone)
    assert machines is not None
    job = ShardJob(replace(work, run=work.run.alone()))

    def told(shard: Shard) -> tuple[Shard, Sequence[Named]]:
        return shard, named(shard.start, shard.end)

    for shard in done_by_machines(job, shards, machines, device, told=told):
        advance(shard.end - shard.start)
