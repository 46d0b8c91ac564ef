"""Connections: how many there may be, how long one may dawdle, and an end within seconds."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import socket
import threading
import webbrowser
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ttr.apps.image.readers import READERS
from ttr.apps.service.address import Address
from ttr.apps.service.private_folder import UPLOADS
from ttr.errors import OutputError

#: Connections in all, and from one address that is no proxy's.
TOTAL, EACH = 512, 128
#: Seconds for the head of a request; for a visitor who takes nothing of an answer; between two requests.
HEAD, TAKEN, IDLE = 10.0, 60.0, 5
#: Seconds from the first signal to the end: until then answers may be finished, after that nothing is.
GRACE, LAST = 1, 2.0
#: Number of mallopt's option for how many heaps there are at most.
ARENA_MAX = -8


class Connection(H11Protocol):
    """A connection that is closed once its visitor dawdles, and not served beyond the limits."""

    peer = ""
    each: int | None = EACH
    head: float = HEAD
    _dawdling: asyncio.TimerHandle | None = None
    _untaken: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the head of a request, or refuse the connection."""
        super().connection_made(transport)
        self.peer = self.client[0] if self.client else ""
        same = sum(getattr(other, "peer", None) == self.peer for other in self.connections)
        if len(self.connections) > TOTAL or (self.each is not None and same > self.each):
            self._end(b"503 Service Unavailable")
        self._expect()

    def data_received(self, data: bytes) -> None:
        """Go on waiting while it is the visitor's turn: data that trickle in win no time."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._expect()
        elif self._dawdling is not None:
            self._dawdling.cancel()
            self._dawdling = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        for timer in (self._dawdling, self._untaken):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begin to wait for the visitor to take what was sent."""
        super().pause_writing()
        self._untaken = self.loop.call_later(TAKEN, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop waiting for the visitor to take what was sent."""
        super().resume_writing()
        if self._untaken is not None:
            self._untaken.cancel()

    def _expect(self) -> None:
        if self._dawdling is None:
            self._dawdling = self.loop.call_later(self.head, self._dawdled)

    def _dawdled(self) -> None:
        begun = self.conn.trailing_data[0] and (self.cycle is None or self.cycle.response_complete)
        self._end(b"408 Request Timeout" if begun else None)

    def _end(self, status: bytes | None) -> None:
        if not self.transport.is_closing():
            if status:
                self.transport.write(
                    b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % status
                )
            self.transport.close()


class Server(uvicorn.Server):
    """A server that is gone seconds after a signal, whatever its threads compute."""

    def __init__(self, config: uvicorn.Config, folder: Path) -> None:
        super().__init__(config)
        self.folder = folder

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a thread that does not end by then is left behind, and so is no upload."""

        def leave() -> None:
            UPLOADS.remove(self.folder)
            os._exit(128 + sig)

        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # answers that break off are no news
        last = threading.Timer(LAST, leave)
        last.daemon = True
        last.start()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the readers first: the loop waits for every thread, and one may wait for a slow file."""
        READERS.close()
        await super().shutdown(sockets)


def share_heaps() -> None:
    """Let a server's threads share two heaps, where the C library is GNU's.

    Otherwise each of some dozens has one of its own, and keeps what it freed there: the process grows with
    every visit.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(ARENA_MAX, 2)


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        OutputError: the address is taken.
    """
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)  # who comes before the page is built waits, and is not turned away
    except OSError as error:
        raise OutputError(
            f"{host}:{port} cannot be used ({error.strerror}); choose another --port"
        ) from error
    return listening


def invite(listening: socket.socket, address: Address, *, browser: bool) -> str:
    """Return where the page is, as the terminal says it; open it in a browser if that is asked for."""
    here = f"[{address.host}]" if ":" in address.host else address.host
    link = f"http://{here}:{listening.getsockname()[1]}{'' if address.public else address.root}"
    if browser:
        threading.Timer(0.5, webbrowser.open, [address.seen if address.public else link]).start()
    shown = f", shown as {address.seen}" if address.public else ""
    return f"{link}{shown} (stop with Ctrl-C)"


def listen(app: Any, listening: socket.socket, folder: Path, *, proxied: bool) -> None:
    """Serve until a signal comes.

    Args:
        app: what answers.
        listening: a socket.
        folder: removed should the process have to be ended.
        proxied: all visitors come from one address, the proxy's, which keeps its own counts.
    """
    settings = uvicorn.Config(
        app,
        http=type("Connection", (Connection,), {"each": None if proxied else EACH}),
        ws="none",
        proxy_headers=False,
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=GRACE,
    )
    Server(settings, folder).run(sockets=[listening])
