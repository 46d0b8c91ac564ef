"""What readers answered, a row an answer: appended, on the disk before the reader goes on, whole or absent.

The table is blind: which condition a trial is of stands in the key alone. A row that a kill cut short is
taken away when the book is opened again, and its trial is shown anew.
"""

from __future__ import annotations

import csv
import errno
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path

from ttr.errors import DataError, OutputError
from ttr.files import read_bytes, sync
from ttr.locks import held

#: The file in a study's folder, and what is held while somebody writes to it.
NAME, LOCK = "answers.csv", ".ttr-answers.lock"
#: Bytes of the table at most.
MOST = 256 << 20


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        trial: its trial's name.
        reader: who answered.
        session: from 1.
        position: in the session, from 1.
        answer: one of the study's answers; empty for a pair.
        confidence: in it, 0..100; None for a pair.
        trust: in the map, 1..5; None where none was shown, and for a pair.
        preference: of a pair: A, B or neither; else empty.
        ms: from the display to the answer, without pauses, by the server's monotonic clock.
        paused_ms: in pauses.
        pauses: how many.
        displays: how often it was shown; more than once where the page was loaded anew.
        answered: when, in UTC.
    """

    trial: str
    reader: str
    session: int
    position: int
    answer: str
    confidence: int | None
    trust: int | None
    preference: str
    ms: int
    paused_ms: int
    pauses: int
    displays: int
    answered: str


COLUMNS = tuple(field.name for field in fields(Answer))
NUMBERS = ("session", "position", "confidence", "trust", "ms", "paused_ms", "pauses", "displays")


class AnswerBook:
    """The answers of a study, in order; :func:`opened` gives one that can be written to."""

    def __init__(self, handle: int, answers: list[Answer]) -> None:
        self._handle = handle
        self.answers = answers

    def append(self, answer: Answer) -> None:
        """Write an answer, which is on the disk when this returns.

        Raises:
            OutputError: it cannot be written; then nothing of it is.
        """
        before = os.fstat(self._handle).st_size
        try:
            _write(self._handle, _line(asdict(answer).values()))
        except OSError as error:
            os.ftruncate(self._handle, before)
            raise OutputError(
                f"the answer cannot be written to {NAME} ({error.strerror}); make room on the disk, "
                "and answer again"
            ) from error
        self.answers.append(answer)


def moment(answered: str) -> datetime:
    """Return when an answer was given, in UTC.

    Raises:
        DataError: that is no time, or none of a known zone.
    """
    try:
        found = datetime.fromisoformat(answered)
        if found.tzinfo is None:
            raise ValueError("no zone")
        return found.astimezone(timezone.utc)
    except (ValueError, OverflowError) as error:
        raise DataError(
            f"an answer was given at {answered!r}, no time of a zone; put the file back"
        ) from error


@contextmanager
def opened(folder: Path) -> Iterator[AnswerBook]:
    """Yield the answers of a study to go on with; nobody else writes to them meanwhile.

    Raises:
        OutputError: another process has them, or they cannot be written.
        DataError: they are no answers of a study.
    """
    with held(folder / LOCK) as alone:
        if not alone:
            raise OutputError(
                f"readers read in {folder} already; end the other ttr readers serve first, or send them there"
            )
        handle = _handle(folder / NAME)
        try:
            yield AnswerBook(handle, _taken_up(handle, folder / NAME))
        finally:
            os.close(handle)


def _handle(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror}); mend that, and start again"
        ) from error


def read_answers(folder: Path) -> list[Answer]:
    """Return the answers of a study; none where nobody has answered yet.

    Raises:
        DataError: they are no answers of a study.
    """
    path = folder / NAME
    return _parsed(_read(path), path) if path.exists() else []


def _taken_up(handle: int, path: Path) -> list[Answer]:
    content = _read(path)
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.ftruncate(handle, len(whole))
    if not whole:
        _write(handle, _line(COLUMNS))
        sync(path.parent)
        return []
    return _parsed(whole, path)


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, MOST)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); give the folder of a study") from error


def _parsed(content: bytes, path: Path) -> list[Answer]:
    try:
        rows = list(
            csv.reader(io.StringIO(content[: content.rfind(b"\n") + 1].decode(), newline=""), strict=True)
        )
        if not rows:
            return []
        if tuple(rows[0]) != COLUMNS:
            raise ValueError("its first line has other columns")
        found = [_answer(row) for row in rows[1:]]
        if len({each.trial for each in found}) < len(found):
            raise ValueError("a trial is answered twice")
    except (ValueError, csv.Error) as error:
        why = " ".join(str(error).split())[:200]
        raise DataError(f"{path} is damaged ({why}); put the file back as it was written") from error
    return found


def _answer(row: list[str]) -> Answer:
    if len(row) != len(COLUMNS):
        raise ValueError("a row that is longer or shorter than the first")
    values: dict[str, object] = dict(zip(COLUMNS, row, strict=True))
    for name in NUMBERS:
        values[name] = None if values[name] == "" else int(str(values[name]))
    if any(values[name] is None for name in NUMBERS if name not in ("confidence", "trust")):
        raise ValueError("a number is missing")
    return Answer(**values)  # type: ignore[arg-type]


def _line(values: Iterable[object]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(values)
    return stream.getvalue().encode()


def _write(handle: int, line: bytes) -> None:
    if os.write(handle, line) < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(handle)
