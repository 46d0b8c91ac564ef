"""Which machines compute, as data; known to be possible before anything heavy is imported."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from importlib.util import find_spec

from ttr.checks import integer
from ttr.errors import OptionError
from ttr.ranks import Rank
from ttr.wording import install

#: Seconds that the head of a cluster has to answer.
PATIENCE = 10.0


@dataclass(frozen=True)
class Machines:
    """The machines of a Ray cluster.

    Attributes:
        address: ``host:port`` of its head, or ``"auto"``: the one that this machine belongs to; None: what
            ``RAY_ADDRESS`` says, else a cluster of this machine alone is started, and stopped at the end.
        actors: processes that hold the model, of one CPU (and one GPU) each; None: one a GPU; on CPUs, one a
            CPU of each machine but one, which is left to reading ahead.

    Raises:
        OptionError: a value is outside its range, Ray is not installed, or this is a process of torchrun.
    """

    address: str | None = None
    actors: int | None = None

    def __post_init__(self) -> None:
        if find_spec("ray") is None:
            raise OptionError(
                f"the engine ray needs the package ray, which is not installed; run: {install('ray')}"
            )
        if self.actors is not None:
            integer("actors", self.actors, 1)
        address = self.address or os.environ.get("RAY_ADDRESS") or None
        if address is not None and not re.fullmatch(
            r"auto|[\w.-]+:\d{1,5}|\[[\da-fA-F:]+\]:\d{1,5}", address
        ):
            raise OptionError(
                f"the address of the Ray cluster is {address!r}; needed host:port of its head, as ray start "
                "says it, or auto"
            )
        object.__setattr__(self, "address", address)
        if Rank.of().count > 1:
            raise OptionError(
                "got the engine ray under torchrun, and each of them shares out the work; start ttr once, "
                "without torchrun"
            )

    def check_answers(self) -> None:
        """Raise OptionError where nobody listens at the address; Ray itself would wait for minutes."""
        host, _, port = (self.address or "").rpartition(":")
        if not host:
            return
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise OptionError(
                f"no Ray cluster answers at {self.address} ({why}); give the address that ray start --head "
                "said, or none to use this machine alone"
            ) from error
