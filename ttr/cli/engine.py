"""Who computes: options of the commands whose work machines share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.cli import options
from ttr.cli.groups import Group

if TYPE_CHECKING:
    from ttr.machines.cluster import Machines


class Engine(str, Enum):
    """Who computes."""

    here = "here"
    ray = "ray"


@dataclass(frozen=True, kw_only=True)
class EngineOptions(Group):
    """Who computes: this process, or machines."""

    engine: Annotated[
        Engine, typer.Option(help="This process, or the machines of a Ray cluster (extra [ray]).")
    ] = Engine.here
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Address of the Ray cluster's head, or auto: the cluster that this machine belongs to; "
            "default: RAY_ADDRESS, else this machine alone.",
        ),
    ] = None
    actors: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Ray processes that hold the model; default: one a GPU, or a CPU but one of each machine.",
        ),
    ] = None

    def machines(self) -> Machines | None:
        """Return the machines, None: this process.

        Raises:
            OptionError: Ray is not installed, no cluster answers, or an option is given that needs it.
        """
        from ttr.errors import OptionError
        from ttr.machines.cluster import Machines

        if self.engine is Engine.ray:
            machines = Machines(self.address, self.actors)
            machines.check_answers()
            return machines
        for name in ("address", "actors"):
            if getattr(self, name) is not None:
                raise OptionError(f"got --{name} without --engine ray; add that, or leave it out")
        return None

    def sent(self, model: options.ModelOptions) -> options.ModelOptions:
        """Return how a model is loaded here: what is sent to machines from here computes there."""
        return model if self.engine is Engine.here else replace(model, device="cpu")
