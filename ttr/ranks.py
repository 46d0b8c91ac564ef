"""Which of several processes this one is, as ``torchrun`` tells each of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from ttr.errors import OptionError


@dataclass(frozen=True)
class Rank:
    """One process of several that share a piece of work; none of them waits for another.

    Attributes:
        index: which it is, from 0 on.
        count: of how many.
        local: which it is on its machine; None: nobody said.
    """

    index: int = 0
    count: int = 1
    local: int | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str] | None = None) -> Rank:
        """Return what ``RANK``, ``WORLD_SIZE`` and ``LOCAL_RANK`` say; without them, the only process.

        Raises:
            OptionError: one of the first two alone, or numbers that no process can have.
        """
        given = os.environ if environment is None else environment
        said = {name: given[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK") if given.get(name)}
        if not said.keys() & {"RANK", "WORLD_SIZE"}:
            return cls()
        words = ", ".join(f"{name}={value}" for name, value in said.items())
        try:
            found = cls(int(said["RANK"]), int(said["WORLD_SIZE"]), int(said.get("LOCAL_RANK", said["RANK"])))
        except (KeyError, ValueError):
            raise OptionError(
                f"the environment says {words}; needed RANK and WORLD_SIZE as torchrun sets them, or neither"
            ) from None
        if not 0 <= found.index < found.count or (found.local or 0) < 0:
            raise OptionError(f"the environment says {words}; needed 0 <= RANK < WORLD_SIZE: see torchrun")
        return found

    def takes(self, number: int) -> bool:
        """Return whether a piece of the work is this process's: they are dealt out one by one."""
        return number % self.count == self.index

    def check_alone(self, command: str) -> None:
        """Refuse to run as one of several processes a command that does not share its work.

        Raises:
            OptionError: there are others, each of which would do all of it and write to the same place.
        """
        if self.count > 1:
            raise OptionError(
                f"{command} runs in one process, and the environment says WORLD_SIZE={self.count}; start it "
                "without torchrun, on one GPU with --device cuda"
            )

    def device(self, name: str) -> str:
        """Return the device of this process, where all were told ``cuda`` without a number."""
        return f"cuda:{self.local}" if name == "cuda" and self.count > 1 and self.local is not None else name
