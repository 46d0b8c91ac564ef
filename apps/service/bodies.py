"""What a request may send, and how slowly: a body too long or too late is refused, and waits for nobody."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ttr.apps.service.messages import UPLOAD, refuse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Bytes of any body but an upload's, whose limits are its own.
LARGEST = 2**20
#: Seconds that any part of a body may take to come, and bytes a second that it comes with at least.
PATIENCE, SLOWEST = 20.0, 16 * 1024


class Bodies:
    """End a request with 413 once its body is too long, and with 408 once it comes too slowly.

    Args:
        app: what answers.
        folder: where uploads are written; what came of one that broke off is removed from it.
        patience: seconds that any part of a body may take to come.
        slowest: bytes a second that a body comes with at least.
    """

    def __init__(
        self, app: ASGIApp, folder: Path, patience: float = PATIENCE, slowest: float = SLOWEST
    ) -> None:
        self.app = app
        self.folder = folder
        self.patience = patience
        self.slowest = slowest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on with a body that keeps within the limits, or refuse it."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        largest = float("inf") if scope["path"] == UPLOAD else LARGEST
        body = _Body(receive, send, largest, self.patience, self.slowest)
        try:
            await self.app(scope, body.receive, body.send)
        except Exception:
            if body.refused is None:  # what an application says of a body that broke off is beside the point
                raise
        finally:
            if scope["path"] == UPLOAD and (body.refused or not body.whole):
                asyncio.get_running_loop().call_later(2 * self.patience, self._forget_halves)
        if body.refused is not None and not body.answered:
            await refuse(scope, receive, send, *body.refused, {"Connection": "close"})

    def _forget_halves(self) -> None:
        """Remove what was begun and is written no more; the library names a file once it is whole."""
        for half in self.folder.glob("tmp*"):
            with suppress(OSError):
                if half.is_file() and time.time() - half.stat().st_mtime > 1.5 * self.patience:
                    half.unlink()


class _Body:
    """The body of one request as it comes: a breach of the limits looks like a visitor who left."""

    def __init__(self, receive: Receive, send: Send, largest: float, patience: float, slowest: float) -> None:
        self._receive, self._send = receive, send
        self.largest, self.patience, self.slowest = largest, patience, slowest
        self.began, self.size, self.whole = time.monotonic(), 0, False
        self.refused: tuple[int, str] | None = None
        self.answered = False

    async def receive(self) -> Message:
        """Return the next part; the end of the connection, if that breaks a limit."""
        if self.whole:
            return await self._receive()
        left = self.began + self.patience + self.size / self.slowest - time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, min(left, self.patience)))
        except asyncio.TimeoutError:
            self.refused = 408, "What was sent came too slowly; try again on a better line."
            return {"type": "http.disconnect"}
        self.size += len(message.get("body", b""))
        self.whole = message["type"] == "http.request" and not message.get("more_body", False)
        if self.size > self.largest:
            self.refused = 413, f"What was sent has more than {self.largest / 1e6:.0f} MB; send less."
            return {"type": "http.disconnect"}
        return message

    async def send(self, message: Message) -> None:
        """Hand an answer on, unless the request is refused meanwhile."""
        if self.refused is None or self.answered:
            self.answered = True
            await self._send(message)
