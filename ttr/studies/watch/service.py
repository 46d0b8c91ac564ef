"""The service: looks again and again, and does what is new, until it is ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from ttr.errors import ArchiveError, OutputError, TTRError
from ttr.hospital.web.archive import Archive
from ttr.studies.pacs.batch import Batch
from ttr.studies.pacs.work import Outcome, There, Work
from ttr.studies.watch.ledger import Ledger
from ttr.studies.watch.monitor import Monitor
from ttr.studies.watch.sources import Source
from ttr.wording import counted, not_done

#: What may go another time, and is of no image: the batch stays begun.
AGAIN = (ArchiveError, OutputError, OSError)


@dataclass(frozen=True)
class Service:
    """A service.

    Attributes:
        source: where images come from.
        ledger: what was done.
        work: how images are compared.
        archive: where results are stored; None: nowhere.
        keep: folder that keeps them; None: none.
        interval: seconds between two looks.
        monitor: what operators see.
        say: its log: UIDs and counts.
    """

    source: Source
    ledger: Ledger
    work: Work
    archive: Archive | None
    keep: Path | None
    interval: float
    monitor: Monitor
    say: Callable[[str], None]

    def run(self, end: Event) -> None:
        """Run until ``end`` is set; a batch that is on the way then is finished first.

        Raises:
            ModelError, NeuronsError: model or neurons fit no image.
        """
        while not end.is_set():
            self.monitor.polled(self.look(end))
            end.wait(self.interval)

    def look(self, end: Event) -> bool:
        """Look once and do what is new; return whether all of it worked."""
        try:
            new = self.source.poll(self.ledger)
            waiting, worked = [*self.ledger.begun(), *new], True
        except TTRError as error:
            self._log(error)
            return False
        self._tell_refused()
        there = self.work.there(self.archive)
        while waiting and not end.is_set():
            self.monitor.waiting(len(waiting))
            worked &= self._do(waiting.pop(0), there)
        self.monitor.waiting(len(waiting))
        return worked

    def _do(self, batch: Batch, there: There) -> bool:
        """Do a batch; return whether it is over."""
        try:
            self.ledger.take(batch, self.source.marks())
            outcome = self.work.do(batch, self.source.fetch, self.archive, self.keep, there)
            self.ledger.finish(batch, outcome)
        except AGAIN as error:
            self._log(error)
            return False
        self.monitor.finished(outcome, len(batch.instances))
        self._tell(batch, outcome)
        return True

    def _tell(self, batch: Batch, outcome: Outcome) -> None:
        if outcome.ours:
            return
        stored = f", {counted(outcome.stored, 'instance')} stored" if self.archive is not None else ""
        self.say(f"series {batch.series.series}: {counted(outcome.done, 'image')} with results{stored}")
        self._tell_not_done(outcome.failed)

    def _tell_refused(self) -> None:
        """Tell what arrived and is no instance, so that nothing is passed over in silence."""
        refused = self.ledger.refused()
        self.monitor.refused(len(refused))
        self._tell_not_done(refused)

    def _tell_not_done(self, failed: Mapping[str, str]) -> None:
        for key, why in failed.items():
            self.say(not_done(key, why))

    def _log(self, error: Exception) -> None:
        # An error of the system's text may hold a path.
        why = error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
        self.say(f"the next look tries again: {why}")
