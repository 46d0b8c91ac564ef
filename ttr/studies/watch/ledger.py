"""What a service has done, on disk: which instance was taken, and what became of it.

A batch is entered before anything is done with it, and again when its results are where they belong. After a
kill it is done again, under the same names: so nothing is lost, nothing is there twice, and nothing half. Of
an image it holds UIDs and, where it failed, a sentence of ours; no name and no other tag.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from ttr.errors import OutputError
from ttr.hospital.web.archive import Instance, Series
from ttr.studies.pacs.batch import Batch
from ttr.studies.pacs.work import Outcome

#: Whose file it is ("ttr"), and in which form.
APPLICATION, FORM = 0x747472, 1
TAKEN, DONE, FAILED, OURS = "taken", "done", "failed", "ours"
_TABLE = """CREATE TABLE IF NOT EXISTS instances (
    uid TEXT PRIMARY KEY, study TEXT NOT NULL, series TEXT NOT NULL, frames INTEGER NOT NULL,
    batch TEXT NOT NULL, state TEXT NOT NULL, why TEXT NOT NULL, mark TEXT NOT NULL
)"""


class Ledger:
    """A ledger in a file, of one process at a time; a context manager.

    Args:
        path: the file, made where there is none.

    Raises:
        OutputError: it cannot be written, here or by any method, is no ledger, or another service has it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._refused: dict[str, str] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(path, timeout=0, isolation_level=None)
            self._base.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._base.execute("PRAGMA synchronous = FULL")
            self._base.execute("BEGIN EXCLUSIVE")
            self._check(path)
            self._base.execute(_TABLE)
            self._base.execute(f"PRAGMA application_id = {APPLICATION}")
            self._base.execute(f"PRAGMA user_version = {FORM}")
            self._base.execute("COMMIT")
        except sqlite3.OperationalError as error:
            why = "another service has it" if "locked" in str(error) else str(error)
            raise OutputError(f"the ledger {path} cannot be used ({why}); choose another --ledger") from None
        except sqlite3.DatabaseError:
            raise _no_ledger(path) from None
        except OSError as error:
            raise OutputError(
                f"the ledger {path} cannot be made ({error.strerror}); choose another --ledger"
            ) from None

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._base.close()

    def knows(self, uid: str, mark: str = "") -> bool:
        """Return whether an instance needs nothing more.

        ``mark``: what is seen of its file; one that failed is new once that is another.
        """
        with self._used():
            found = self._base.execute("SELECT state, mark FROM instances WHERE uid = ?", (uid,)).fetchone()
        return found is not None and (found[0] != FAILED or found[1] == mark)

    def take(self, batch: Batch, marks: Mapping[str, str]) -> None:
        """Enter a batch before it is begun; ``marks``: {UID: what is seen of its file}."""
        series = batch.series
        rows = [
            (
                each.uid,
                series.study,
                series.series,
                each.frames,
                batch.name,
                TAKEN,
                "",
                marks.get(each.uid, ""),
            )
            for each in batch.instances
        ]
        with self._used():
            self._base.execute("BEGIN")
            self._base.executemany("INSERT OR REPLACE INTO instances VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def finish(self, batch: Batch, outcome: Outcome) -> None:
        """Enter what became of a batch."""
        rows = [
            (
                FAILED if each.uid in outcome.failed else OURS if each.uid in outcome.ours else DONE,
                outcome.failed.get(each.uid, ""),
                each.uid,
            )
            for each in batch.instances
        ]
        with self._used():
            self._base.execute("BEGIN")
            self._base.executemany("UPDATE instances SET state = ?, why = ? WHERE uid = ?", rows)

    def refuse(self, key: str, why: str, mark: str) -> None:
        """Enter a file that is no instance, under a key of its own."""
        row = (key, "", "", 1, "", FAILED, why, mark)
        with self._used():
            self._base.execute("INSERT OR REPLACE INTO instances VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        self._refused[key] = why

    def refused(self) -> dict[str, str]:
        """Return {key: why} of what was refused since this was last asked."""
        refused, self._refused = self._refused, {}
        return refused

    def begun(self) -> list[Batch]:
        """Return the batches that were taken and not finished, in the order in which they were taken."""
        asked = "SELECT batch, study, series, uid, frames FROM instances WHERE state = ? ORDER BY batch, uid"
        with self._used():
            found = self._base.execute(asked, (TAKEN,)).fetchall()
        batches: dict[str, Batch] = {}
        for name, study, series, uid, frames in found:
            before = batches[name].instances if name in batches else ()
            batches[name] = Batch(Series(study, series), (*before, Instance(uid, frames)))
        return list(batches.values())

    def forget_failed(self) -> int:
        """Let instances that failed be new again; return how many."""
        with self._used():
            return self._base.execute("DELETE FROM instances WHERE state = ?", (FAILED,)).rowcount

    def states(self) -> dict[str, int]:
        """Return {state: number of instances}."""
        return dict(self._base.execute("SELECT state, COUNT(*) FROM instances GROUP BY state").fetchall())

    def failures(self) -> dict[str, str]:
        """Return {UID, or key of a file: why it has no results}."""
        found = self._base.execute("SELECT uid, why FROM instances WHERE state = ? ORDER BY uid", (FAILED,))
        return dict(found.fetchall())

    @contextmanager
    def _used(self) -> Iterator[None]:
        """Let what is entered within be there whole, or not at all."""
        try:
            with self._base:
                yield
        except sqlite3.Error as error:  # a full disk, one that is gone
            raise OutputError(f"the ledger {self._path} cannot be used ({error}); make room there") from None

    def _check(self, path: Path) -> None:
        whose, form, tables = (
            self._base.execute(asked).fetchone()[0]
            for asked in (
                "PRAGMA application_id",
                "PRAGMA user_version",
                "SELECT COUNT(*) FROM sqlite_master",
            )
        )
        if (whose, form) != (APPLICATION, FORM) and (whose, form, tables) != (0, 0, 0):
            raise _no_ledger(path)


def _no_ledger(path: Path) -> OutputError:
    return OutputError(f"{path} is no ledger of ttr watch, or a damaged one; choose another --ledger")
