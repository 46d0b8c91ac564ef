"""What stands in Ray's place: a cluster of this process, whose workers can be killed."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest

from ttr.machines import cluster as clusters


class DeathError(Exception):
    """What Ray raises for an actor that is gone for good."""


class Cluster(ModuleType):
    """What of Ray is used, in this process; a call runs when it is waited for, the last one first.

    Attributes:
        asked: what an actor was to have.
        joined: (address, how) of each connection.
        left: how often one was ended.
        written: (worker, piece) of each call; a piece is a number, or begins with something numbered.
        deadly: {piece: how many workers die of it}.
    """

    def __init__(self) -> None:
        super().__init__("ray")
        self.__spec__ = ModuleSpec("ray", None)
        self.exceptions = SimpleNamespace(RayActorError=DeathError, OutOfMemoryError=DeathError)
        self.asked, self.joined, self.left = {}, [], 0
        self.written: list[tuple[int, int]] = []
        self.deadly: dict[int, int] = {}

    def is_initialized(self):
        return False

    def init(self, address, **how):
        self.joined.append((address, how))

    def shutdown(self):
        self.left += 1

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 3.0}}, {"Alive": False, "Resources": {"CPU": 64.0}}]

    def put(self, value):
        return value

    def remote(self, cls):
        cluster, made = self, iter(range(99))

        def options(**asked):
            cluster.asked = asked

            def start(*given):
                number, worker = next(made), cls(*given)

                def do(piece):
                    place = piece if isinstance(piece, int) else piece[0].index
                    return lambda: (cluster.written.append((number, place)), worker.do(piece))[1]

                return SimpleNamespace(do=SimpleNamespace(remote=do))

            return SimpleNamespace(remote=start)

        return SimpleNamespace(options=options)

    def wait(self, calls, num_returns):
        return calls[-1:], calls[:-1]

    def get(self, call):
        result = call()
        shard = self.written[-1][1]
        if self.deadly.get(shard):
            self.deadly[shard] -= 1
            raise DeathError("the actor died\nkilled by the system")
        return result


def joined(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Return a cluster that is there for whoever imports Ray."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(clusters, "find_spec", lambda name: ModuleSpec(name, None))
    found = Cluster()
    monkeypatch.setitem(sys.modules, "ray", found)
    return found
