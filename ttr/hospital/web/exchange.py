"""Requests to an archive: verified, bounded in size and time, tried again where that can help.

Nobody but the archive that was named is asked: no proxy of the environment, no redirect. What is sent may be
sent twice, since instances have UIDs of their own.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from ttr.errors import ArchiveError
from ttr.hospital.web.access import PASSWORD, TOKEN, USER, Access

#: Seconds until a connection stands, until the next bytes come, and until an answer is whole.
CONNECT, NEXT, WHOLE = 10.0, 60.0, 1800.0
#: Seconds before each further try, and at most, should an archive ask for more.
WAITS, LONGEST_WAIT = (1.0, 2.0, 4.0, 8.0), 60.0
#: An archive that says one of these is asked again: it is busy, or only what stands before it is there.
BUSY = (429, 502, 503, 504)
#: What an archive says of what it has not.
GONE = (404, 410)
#: What an answer may be packed with; bytes are counted as they come and as they are unpacked. The number lets
#: zlib see which it is.
PACKED, EITHER = ("gzip", "deflate"), zlib.MAX_WBITS | 32
T = TypeVar("T")


class Exchange:
    """A connection to an archive; a context manager.

    Args:
        access: where it is, and who asks.
        sleep: waits between two tries.
    """

    def __init__(self, access: Access, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._host = urlsplit(access.url).netloc
        self._line: Any = None
        self._client = httpx.Client(
            base_url=access.url,
            auth=access.login,
            headers=access.headers(),
            verify=access.trust,
            follow_redirects=False,
            trust_env=False,
            timeout=httpx.Timeout(NEXT, connect=CONNECT),
        )

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._client.close()

    def ask(self, method: str, path: str, read: Callable[[httpx.Response], T], **request: Any) -> T:
        """Send a request and return what ``read`` makes of the answer, whose status is 200 to 299 or 409.

        ``read`` may be called again from the start where a connection breaks off.

        Raises:
            ArchiveError: it cannot be reached, refuses, sends elsewhere, or stays busy.
            AnswerError: it answers with another status.
        """
        waits = iter(WAITS)
        while True:
            asked = 0.0
            late = threading.Event()
            request["extensions"] = {"trace": self._note}
            try:
                with self._cut(late), self._client.stream(method, path, **request) as answer:
                    if answer.status_code not in BUSY:
                        self._check(answer)
                        return read(answer)
                    failed = f"is busy ({answer.status_code})"
                    asked = _seconds(answer.headers.get("Retry-After", ""))
            except httpx.TransportError as error:
                if late.is_set():
                    raise self._too_slow() from None
                failed = self._failure(error)
            except (httpx.RequestError, httpx.InvalidURL, zlib.error):
                raise self._refusal("sent an answer that is damaged") from None
            wait = next(waits, None)
            if wait is None:
                raise self._refusal(f"{failed}, and was asked {len(WAITS) + 1} times; try again later")
            self._sleep(min(max(wait, asked), LONGEST_WAIT))

    def chunks(self, answer: httpx.Response, most: int) -> Iterator[bytes]:
        """Yield the bytes of an answer, unpacked.

        Raises:
            ArchiveError: they come too slowly, or packed in another way.
            AnswerError: there are more than ``most``.
        """
        packed, until = answer.headers.get("Content-Encoding", "").lower(), time.monotonic() + WHOLE
        if packed not in ("", "identity", *PACKED):
            raise self._refusal("packs its answers in a way that was not asked for; let it send them plain")
        unpack = zlib.decompressobj(EITHER).decompress if packed in PACKED else bytes
        came = unpacked = 0
        for raw in answer.iter_raw():
            chunk = unpack(raw)
            came, unpacked = came + len(raw), unpacked + len(chunk)
            if max(came, unpacked) > most:
                said = f"the archive {self._host} sends more than {most / 1e6:,.0f} MB in one answer"
                raise AnswerError(f"{said}; none may be larger", answer.status_code)
            if time.monotonic() > until:
                raise self._too_slow()
            yield chunk

    def kind(self, answer: httpx.Response, *wanted: str) -> str:
        """Return the media type of an answer, one of those that are wanted.

        Raises:
            ArchiveError: it is another one.
        """
        found = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if found in wanted:
            return found
        shown = found if re.fullmatch(r"[a-z0-9.+/-]{1,40}", found) else "something else"
        raise self._refusal(
            f"answered with {shown}, not with {' or '.join(wanted)}; is --url its DICOMweb root (Orthanc's "
            "ends with /dicom-web)?"
        )

    @contextmanager
    def _cut(self, late: threading.Event) -> Iterator[None]:
        """End the connection once an answer took :data:`WHOLE`, its head included, and say so in ``late``."""

        def cut() -> None:
            late.set()
            if self._line is not None:
                with suppress(
                    OSError
                ):  # of the system itself: TLS has its own, which waits for the other side
                    socket.socket.shutdown(self._line.get_extra_info("socket"), socket.SHUT_RDWR)

        timer = threading.Timer(max(0.0, WHOLE), cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _note(self, event: str, found: Any) -> None:
        """Keep the connection that stands."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._line = found["return_value"]

    def _too_slow(self) -> ArchiveError:
        return self._refusal(f"needs more than {WHOLE / 60:.0f} minutes for one answer; try again later")

    def _check(self, answer: httpx.Response) -> None:
        status = answer.status_code
        if status in (401, 403):
            raise self._refusal(f"refuses whoever asks ({status}); set {USER} and {PASSWORD}, or {TOKEN}")
        if 300 <= status < 400:
            try:
                place = (
                    urlsplit(answer.headers.get("Location", "")).netloc.rpartition("@")[2] or "another path"
                )
            except ValueError:
                place = "somewhere"
            raise self._refusal(
                f"sends on to {place[:100]} ({status}), where no login and no image follows; give that "
                "address as --url if it is right"
            )
        if status in GONE:
            raise AnswerError(f"the archive {self._host} has nothing there; check --url and the UIDs", status)
        if not (200 <= status < 300 or status == 409):
            raise AnswerError(
                f"the archive {self._host} answered with {status}; its own log says why", status
            )

    def _failure(self, error: httpx.TransportError) -> str:
        """Return in words why nothing came; certificates that lead nowhere are not tried again.

        Raises:
            ArchiveError: TLS refuses.
        """
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise self._refusal(
                    f"has a certificate that is not trusted ({cause.verify_message}); give the house's own "
                    "with --ca FILE"
                ) from None
            if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
                raise self._refusal("does not speak TLS there; check --url") from None
            cause = cause.__cause__ or cause.__context__
        if isinstance(error, httpx.ConnectError):
            return "cannot be reached"
        return "does not answer in time" if isinstance(error, httpx.TimeoutException) else "broke off"

    def _refusal(self, why: str) -> ArchiveError:
        return ArchiveError(f"the archive {self._host} {why}")


class AnswerError(ArchiveError):
    """An archive answers that it does not do what it was asked."""

    def __init__(self, said: str, status: int) -> None:
        super().__init__(said)
        self.status = status


def _seconds(text: str) -> float:
    """Return the seconds that an archive asks to be left alone; 0 where it says none."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0.0
