"""A real Ray cluster of two nodes on loopback, and the killing of its workers."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

#: As many threads in each process, since the last bits of a sum may depend on it.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@contextmanager
def two_nodes() -> Iterator[tuple[str, dict[str, str], list[int]]]:
    """A Ray cluster of two nodes of this machine: its address, the environment that opens it, processes."""
    pytest.importorskip("ray")
    # Paths of sockets are short.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as place:
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        environment = {**ENVIRONMENT, **token, "RAY_USAGE_STATS_ENABLED": "0"}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        ray = [
            shutil.which("ray", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"),
            "start",
            "--block",
        ]
        head = ["--head", "--node-ip-address=127.0.0.1", f"--port={address.rpartition(':')[2]}"]
        head += ["--include-dashboard=false", f"--temp-dir={place}"]
        nodes = []
        try:
            for words in (head, [f"--address={address}"]):
                log = Path(place, f"{len(nodes)}.log")
                with log.open("w") as file:
                    nodes.append(
                        subprocess.Popen(
                            [*ray, *words, "--num-cpus=2"],
                            env=environment,
                            stdout=file,
                            stderr=file,
                            start_new_session=True,
                        )
                    )
                while "Ray runtime started" not in log.read_text():
                    assert nodes[-1].poll() is None, log.read_text()
                    time.sleep(0.1)
            yield address, environment, [node.pid for node in nodes]
        finally:
            for node in reversed(nodes):
                node.terminate()
                node.wait()


def _parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def _workers_of(nodes: list[int]) -> list[int]:
    """Return the workers of a cluster: children of what its nodes' commands started."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            process = int(line.parent.name)
            if line.read_bytes().startswith(b"ray::Worker") and _parent(_parent(process)) in nodes:
                found.append(process)
    return found


def kill_a_worker(nodes: list[int]) -> None:
    """Kill one of a cluster's workers; ``nodes``: the processes of its nodes' commands."""
    victim, *_ = _workers_of(nodes)
    os.kill(victim, signal.SIGKILL)
