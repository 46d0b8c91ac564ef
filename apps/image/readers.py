"""Files are decoded in a process of their own that time and memory end: the page goes on, whatever they do.

A reader is started when it is first needed, kept for the next file, and replaced once it ended. It may fill
its memory, spin or fall: the visitor gets a sentence, and others get their answers from the other readers.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import IO, Any

from ttr.apps.image.decoding import (
    NAME,
    Decoded,
    Survey,
    decode,
    decode_frames,
    packed,
    survey,
    survey_from,
    unpacked,
)
from ttr.datasets.limits import no_memory
from ttr.errors import ImageError, TTRError

#: Files that are decoded at the same time.
PLACES = 2
#: Seconds of computing that a file may take, and bytes; a busy machine may need a multiple of the seconds.
SECONDS, MEMORY = 20.0, 2 * 2**30
BUSY = 3
#: Times the seconds of a file that all frames of one may take together.
FRAMES_TAKE = 3
#: The reader imports what this process would, and nothing of the folder where it happens to be started.
CODE = "import sys; sys.path[:] = sys.argv[3:]; from ttr.apps.image.readers import main; main()"
#: What a process needs of the environment; no password goes along.
ENVIRONMENT = ("PATH", "LANG", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMPDIR")
MOST_HEAD = 2**20


class Readers:
    """Readers, at most :data:`PLACES` at once; who comes while all are busy waits for one.

    Args:
        seconds: of computing that a file may take; on the clock :data:`BUSY` times as many.
        memory: bytes that decoding it may take.
    """

    def __init__(self, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self.seconds, self.memory = seconds, memory
        self._places = threading.BoundedSemaphore(PLACES)
        self._idle: deque[_Reader] = deque()
        self._all: set[_Reader] = set()
        self._closed = False

    def decode(self, content: bytes) -> Decoded:
        """Return what :func:`ttr.apps.image.decoding.decode` returns, decoded elsewhere.

        Raises:
            ImageError: the file's fault, or it took too long or too much memory.
        """
        (found,) = self._asked(content, {"do": "decode"}, unpacked)
        return found

    def survey(self, content: bytes) -> Survey:
        """Return what :func:`ttr.apps.image.decoding.survey` returns; refusals are :meth:`decode`'s."""
        (found,) = self._asked(content, {"do": "survey"}, survey_from)
        return found

    def frames(self, content: bytes, count: int) -> list[Decoded]:
        """Return the first ``count`` frames of a file, in its order; refusals are :meth:`decode`'s."""
        return self._asked(content, {"do": "frames", "count": count}, unpacked, count, FRAMES_TAKE)

    def _asked(
        self,
        content: bytes,
        task: dict[str, Any],
        taken: Callable[[dict[str, Any], Any], Any],
        answers: int = 1,
        times: int = 1,
    ) -> list[Any]:
        """Return the answers to a task on a file, in ``times`` the seconds of one."""
        with self._places:
            reader = self._reader()
            try:
                found = reader.ask(content, task, taken, answers, times * BUSY * self.seconds)
            except ImageError:
                self._idle.append(reader)
                raise
            except Exception:
                raise self._ended(reader) from None
            self._idle.append(reader)
            return found

    def close(self) -> None:
        """End all readers, and begin none any more; a file that is on its way is refused."""
        self._closed = True
        for reader in list(self._all):
            reader.end()
        self._all.clear()
        self._idle.clear()

    def _reader(self) -> _Reader:
        with contextlib.suppress(IndexError):  # another thread may take the last one
            while True:
                reader = self._idle.pop()
                if reader.process.poll() is None:
                    return reader
                self._all.discard(reader)
        if self._closed:
            raise TTRError("no file can be opened any more; the page is being closed")
        try:
            reader = _Reader(self.seconds, self.memory)
        except OSError as error:
            raise TTRError(
                f"no file can be opened now ({error.strerror}); wait a moment and try again"
            ) from None
        self._all.add(reader)
        return reader

    def _ended(self, reader: _Reader) -> ImageError:
        self._all.discard(reader)
        reader.end()
        if reader.overdue or reader.process.returncode == -getattr(signal, "SIGXCPU", 0):
            return ImageError(
                f"{NAME} took longer than {self.seconds:g} seconds to open; save it smaller or uncompressed, "
                "and upload it again"
            )
        return ImageError(
            f"{NAME} could not be opened within {self.memory / 2**30:.1f} GB of memory, or is damaged; save "
            "it anew and upload it again"
        )


class _Reader:
    """One process that decodes, a file after the other."""

    def __init__(self, seconds: float, memory: int) -> None:
        command = [sys.executable, "-I", "-B", "-c", CODE, str(seconds), str(memory), *filter(None, sys.path)]
        environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**environment, "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
            pipesize=2**20,
        )
        self.overdue = False

    def ask(
        self,
        content: bytes,
        task: dict[str, Any],
        taken: Callable[[dict[str, Any], Any], Any],
        answers: int,
        seconds: float,
    ) -> list[Any]:
        """Return what comes back; after any exception but ImageError the process is of no more use."""
        asked, said = self.process.stdin, self.process.stdout
        assert asked is not None
        assert said is not None
        timer = threading.Timer(seconds, self._end_overdue)
        timer.daemon = True
        timer.start()
        try:
            head = json.dumps(task).encode()
            for part in (len(head).to_bytes(4, "big"), len(content).to_bytes(8, "big"), head, content):
                asked.write(part)
            asked.flush()
            return [self._answer(said, taken) for _ in range(answers)]
        finally:
            timer.cancel()

    def _answer(self, said: IO[bytes], taken: Callable[[dict[str, Any], Any], Any]) -> Any:
        head = json.loads(_exactly(said, int.from_bytes(_exactly(said, 4, 4), "big"), MOST_HEAD))
        if "refused" in head:
            raise ImageError(str(head["refused"]))
        return taken(head, lambda place: _fill(said, place))

    def end(self) -> None:
        """Kill the process; whoever reads from it gets an end of file."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError, ValueError):
                pipe.close()  # type: ignore[union-attr]

    def _end_overdue(self) -> None:
        self.overdue = True
        self.process.kill()


def _exactly(stream: IO[bytes], count: int, most: int) -> bytes:
    if count > most:
        raise ValueError("an answer that is too long")
    content = stream.read(count)
    if len(content) < count:
        raise EOFError
    return content


def _fill(stream: Any, place: memoryview) -> None:
    if stream.readinto(place) < len(place):
        raise EOFError


READERS = Readers()
atexit.register(READERS.close)


def main() -> None:
    """Decode what comes in until nothing more comes: the reader's side."""
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    seconds, memory = float(sys.argv[1]), int(sys.argv[2])
    _prepare(memory)
    while len(lengths := asked.read(12)) == 12:
        task = json.loads(asked.read(int.from_bytes(lengths[:4], "big")))
        content = asked.read(int.from_bytes(lengths[4:], "big"))
        _allow(seconds * (FRAMES_TAKE if task["do"] == "frames" else 1))
        for head, arrays in _answers(task, content):
            answers.write(len(head).to_bytes(4, "big") + head)
            for array in arrays:
                answers.write(memoryview(array).cast("B"))
        answers.flush()


def _answers(task: dict[str, Any], content: bytes) -> Iterator[tuple[bytes, list[Any]]]:
    """Yield the answers to a task; a refusal is the last."""
    try:
        if task["do"] == "survey":
            yield json.dumps(asdict(survey(content))).encode(), []
        elif task["do"] == "frames":
            yield from map(packed, decode_frames(content, task["count"]))
        else:
            yield packed(decode(content))
    except MemoryError:
        yield json.dumps({"refused": str(no_memory(NAME))}).encode(), []
    except ImageError as error:
        yield json.dumps({"refused": str(error)}).encode(), []


def _prepare(memory: int) -> None:
    """Bound what this process may take, and let it write no file; Windows has no such bounds."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        with open("/proc/self/statm") as said:
            used = int(said.read().split()[0]) * resource.getpagesize()
        for kind, most in (("AS", used + memory), ("CORE", 0), ("FSIZE", 0)):
            resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (most, most))


def _allow(seconds: float) -> None:
    """Let this process compute for the time of a file: also one whose page is gone ends."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource
        import time

        most = math.ceil(time.process_time() + seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))
