"""Hand one entry its hostile files, in a process with little memory and a clock for each, and count."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.mutation import changed
from ttr.errors import TTRError

MEMORY = 6 << 30
#: Seconds of one input after which it counts as one that hangs.
PATIENCE = 20.0
HOME = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ready:
    """What an entry is given, and how it is tried.

    Attributes:
        seeds: {place below the folder: honest content}.
        attempt: (folder, place of the damaged file) -> what must hold; raises TTRError to refuse.
        alone: only the damaged file lies in the folder, not the other honest ones.
    """

    seeds: Mapping[str, bytes]
    attempt: Callable[[Path, Path], None]
    alone: bool = True


@dataclass
class Tally:
    """What became of the inputs of one entry.

    Attributes:
        tried: inputs.
        refused: of these, with one sentence.
        foreign: {what went wrong: a seed that shows it}.
        hung: seeds of inputs that took longer than :data:`PATIENCE`.
        slowest: seconds of the slowest.
        grown: resident MiB, from a fifth of the way to the end.
    """

    tried: int = 0
    refused: int = 0
    foreign: dict[str, int] = field(default_factory=dict)
    hung: list[int] = field(default_factory=list)
    slowest: float = 0.0
    grown: float = 0.0


class Hung(BaseException):
    """One input took too long."""


def try_entry(prepare: Callable[[], Ready], count: int, first: int = 0) -> Tally:
    """Try ``count`` inputs, of the seeds ``first``.. on, in this process."""
    tally, ready = Tally(), prepare()
    contents = list(ready.seeds.values())
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        if not ready.alone:
            _fill(folder, ready.seeds)
        for seed in range(first, first + count):
            if seed == first + count // 5:
                begun = _resident()
            draw = Random(seed)
            place = draw.choice(list(ready.seeds))
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(changed(ready.seeds[place], path.suffix, draw, contents))
            started = time.perf_counter()
            _attempt(ready, folder, path, seed, tally)
            tally.slowest = max(tally.slowest, time.perf_counter() - started)
            if ready.alone:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(ready.seeds[place])
    tally.grown = _resident() - begun if count else 0.0
    return tally


def _fill(folder: Path, seeds: Mapping[str, bytes]) -> None:
    for place, content in seeds.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(content)


def _attempt(ready: Ready, folder: Path, path: Path, seed: int, tally: Tally) -> None:
    tally.tried += 1
    try:
        with _clock(PATIENCE):
            ready.attempt(folder, path)
    except TTRError as refusal:
        said = str(refusal)
        if len(said) > 2000 or "\n" in said or "Traceback" in said:
            tally.foreign.setdefault(f"no one sentence: {said[:200]!r}", seed)
        tally.refused += 1
    except Hung:
        tally.hung.append(seed)
    except Exception as error:
        kind = _kind(error)
        tally.foreign.setdefault(kind, seed)


def _kind(error: Exception) -> str:
    """Return what tells one fault from another: the error, and the last line of ours that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = next((f for f in reversed(frames) if HOME in Path(f.filename).parents), frames[-1])
    said = next((line for line in str(error).splitlines() if line.strip()), "")
    said = re.sub(r"[0-9]+", "#", said)[:100]
    return f"{type(error).__name__} at {Path(ours.filename).name}:{ours.lineno} ({said})"


@contextmanager
def _clock(seconds: float) -> Any:
    def stop(*_: object) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def try_apart(prepare: Callable[[], Ready], count: int, first: int) -> Tally:
    """Try inputs in a process of its own that may take :data:`MEMORY`; a process that dies is a fault."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(prepare, count, first, send))
    process.start()
    send.close()
    try:
        tally: Tally = receive.recv()
    except EOFError:
        process.join()
        tally = Tally(count, foreign={f"the process died ({process.exitcode})": first})
    process.join()
    return tally


def _child(prepare: Callable[[], Ready], count: int, first: int, send: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries complain of each damaged file in their own words
    import torch

    torch.set_num_threads(1)
    send.send(try_entry(prepare, count, first))
