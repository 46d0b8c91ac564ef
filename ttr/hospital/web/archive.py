"""An archive: which series and instances there are, and an instance from it or into it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from ttr.datasets.dicom.identity import is_uid
from ttr.datasets.limits import MOST_BYTES
from ttr.errors import ArchiveError, ImageError, OptionError, OutputError
from ttr.files import JSONError, parse_json
from ttr.hospital.web import messages
from ttr.hospital.web.exchange import GONE, AnswerError, Exchange

JSON = ("application/dicom+json", "application/json")
DICOM, PARTS = "application/dicom", "multipart/related"
#: Entries that are asked for at a time, entries of an answer in all, and bytes of one answer.
PAGE, MOST_SERIES, MOST_INSTANCES, MOST_JSON = 200, 10_000, 20_000, 32 << 20
#: Bytes of a message beside its instance.
AROUND = 1 << 16
_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"
_MODALITY, _COUNT, _FRAMES = "00080060", "00201209", "00280008"
_FAILED, _STORED, _REASON, _NAMED = "00081198", "00081199", "00081197", "00081155"
#: Reason of a failure that is none: the archive has that instance.
_THERE_ALREADY = 0x0111


@dataclass(frozen=True)
class Series:
    """A series in an archive.

    Attributes:
        study, series: UIDs.
        modality: a code such as ``DX``, or "".
        instances: how many it holds, None where the archive does not say.
    """

    study: str
    series: str
    modality: str = ""
    instances: int | None = None


@dataclass(frozen=True)
class Instance:
    """An instance of a series: its UID, and of how many frames it is as far as that is said."""

    uid: str
    frames: int = 1


class NotStoredError(ArchiveError):
    """An archive refuses an instance."""


class Archive:
    """An archive that is asked through an exchange.

    Attributes:
        nameless: entries that lists held, and that were left out: nobody can ask for what has no valid UID.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.nameless = 0

    def series(self, query: Mapping[str, str]) -> list[Series]:
        """Return the series with all of those attributes, in the order of their UIDs, each once.

        Some archives do not look at all that is asked; UIDs are looked at here.

        Raises:
            ArchiveError: as ``Exchange.ask``, or there are more than :data:`MOST_SERIES`.
        """
        asked = dict(query)
        study = asked.pop("StudyInstanceUID", None)
        path = "/series" if study is None else f"/studies/{_checked(study)}/series"
        found = {
            each.series: each
            for each in map(_series, self._of_a_study(self._pages(path, asked, _SERIES, MOST_SERIES)))
            if study in (None, each.study) and asked.get("SeriesInstanceUID") in (None, each.series)
        }
        return [found[uid] for uid in sorted(found)]

    def instances(self, series: Series, most: int | None = None) -> list[Instance]:
        """Return the instances of a series in the order of their UIDs; none where there is no such series.

        Raises:
            ArchiveError: as ``Exchange.ask``, or there are more than ``most``; None: :data:`MOST_INSTANCES`.
        """
        path = f"/studies/{_checked(series.study)}/series/{_checked(series.series)}/instances"
        try:
            listed = list(self._pages(path, {}, _INSTANCE, most or MOST_INSTANCES))
        except AnswerError as error:
            if error.status not in GONE:
                raise
            return []
        found = {messages.uid(each, _INSTANCE): max(1, messages.whole(each, _FRAMES) or 1) for each in listed}
        return [Instance(uid, found[uid]) for uid in sorted(found)]

    def fetch(self, series: Series, instance: str, path: Path) -> None:
        """Write an instance to a file, as it is stored, :data:`ttr.datasets.limits.MOST_BYTES` at most.

        Raises:
            ArchiveError: as ``Exchange.ask``.
            ImageError: what comes is no whole instance.
            OutputError: the file cannot be written.
        """

        def read(answer: httpx.Response) -> None:
            kind = self._exchange.kind(answer, PARTS, DICOM)
            chunks = self._exchange.chunks(answer, MOST_BYTES + AROUND)
            if kind == PARTS:
                chunks = messages.single_part(answer.headers["Content-Type"], chunks)
            try:
                with path.open("wb") as file:
                    file.writelines(chunks)
            except OSError as error:
                raise OutputError(
                    f"an instance cannot be written to {path.parent} ({error.strerror}); make room there"
                ) from None

        place = f"/studies/{_checked(series.study)}/series/{_checked(series.series)}"
        accepted = f'{PARTS}; type="{DICOM}"; transfer-syntax=*'
        try:
            self._exchange.ask(
                "GET", f"{place}/instances/{_checked(instance)}", read, headers={"Accept": accepted}
            )
        except AnswerError as error:
            raise ImageError(f"{path}: {error}") from None

    def store(self, study: str, instance: str, content: bytes) -> None:
        """Store an instance in its study.

        Raises:
            ArchiveError: as ``Exchange.ask``.
            NotStoredError: the archive refuses it.
        """
        body, said = messages.message(content)

        def read(answer: httpx.Response) -> None:
            self._check_stored(answer, instance)

        head = {**said, "Accept": JSON[0]}
        try:
            self._exchange.ask("POST", f"/studies/{_checked(study)}", read, content=body, headers=head)
        except AnswerError as error:
            if error.status >= 500:  # of a full disk or a fault, not of this instance
                raise
            raise _not_stored(instance, error.status) from None

    def _check_stored(self, answer: httpx.Response, instance: str) -> None:
        content = b"".join(self._exchange.chunks(answer, MOST_JSON))
        try:
            report = parse_json(content) if content else {}
        except JSONError:
            report = {}
        report = report if isinstance(report, dict) else {}
        stored, failed = (
            [each for each in messages.values(report, tag) if isinstance(each, dict)]
            for tag in (_STORED, _FAILED)
        )
        reason = next((messages.whole(each, _REASON) for each in failed), None)
        named = any(instance in messages.values(each, _NAMED) for each in stored)
        # Without a report the status alone counts: 200 is said of a whole that was stored.
        if not named and reason != _THERE_ALREADY and (failed or report or answer.status_code != 200):
            raise _not_stored(instance, answer.status_code, reason)

    def _of_a_study(self, listed: Iterable[Any]) -> Iterator[Any]:
        for each in listed:
            if messages.has_uid(each, _STUDY):
                yield each
            else:
                self.nameless += 1

    def _pages(self, path: str, query: Mapping[str, str], key: str, most: int) -> Iterator[Any]:
        """Yield what is found, page by page, until one brings nothing new: some archives know no pages.

        A short page ends nothing: an archive may give fewer than it is asked for (PS3.18, 8.3.4.4).

        Raises:
            ArchiveError: as ``Exchange.ask``, there are more than ``most``, or none has a valid UID.
        """
        seen: set[str] = set()
        asked = 0
        while True:
            page = {**query, "limit": str(PAGE), "offset": str(asked)}
            listed = self._exchange.ask(
                "GET", path, self._data_sets, params=page, headers={"Accept": JSON[0]}
            )
            named = {messages.uid(each, key): each for each in listed if messages.has_uid(each, key)}
            if listed and not named and not seen:
                messages.uid(listed[0], key)
            new = named.keys() - seen
            if asked == 0 or new:
                self.nameless += sum(not messages.has_uid(each, key) for each in listed)
            seen |= new
            if len(seen) > most:
                raise ArchiveError(f"the archive finds more than {most:,}; needed fewer: ask for less")
            yield from (each for uid, each in named.items() if uid in new)
            asked += len(listed)
            if not new:
                return

    def _data_sets(self, answer: httpx.Response) -> list[Mapping[str, Any]]:
        if answer.status_code == 204:
            return []
        self._exchange.kind(answer, *JSON)
        content = b"".join(self._exchange.chunks(answer, MOST_JSON))
        try:
            return messages.objects(parse_json(content) if content else [])
        except JSONError:
            raise ArchiveError("the archive answered with something that is no JSON; check --url") from None


#: Fetches one instance of a series, by its UID, into a file.
Fetch = Callable[[Series, str, Path], None]


def _series(data: Mapping[str, Any]) -> Series:
    return Series(
        messages.uid(data, _STUDY),
        messages.uid(data, _SERIES),
        messages.word(data, _MODALITY),
        messages.whole(data, _COUNT),
    )


def _not_stored(instance: str, status: int, reason: int | None = None) -> NotStoredError:
    code = "" if reason is None else f", reason {reason:04X}"
    return NotStoredError(
        f"the archive does not store instance {instance} (status {status}{code}); its own log says why"
    )


def _checked(uid: str) -> str:
    if not is_uid(uid):
        raise OptionError(f"{uid[:80]!r} is no UID; needed digits and dots, 64 at most")
    return uid
