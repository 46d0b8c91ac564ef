"""No answer of the queue is lost between two streams of a session.

The widget library sends a session's answers through a stream, and ends it once nothing more is due. What is
asked in that moment is lost: the page's script hears that it was taken while the stream still counts as open,
so it opens no other, and then hears that this one has ended; the answer waits on the server until the page
asks for something else. So here who asks hears nothing as long as the end of a stream is under way. The
script lets go of a stream when it hears of its end (``streams.js`` sees to it: while a file is on its way the
library cuts off another), which the server sees; only then does it hear the rest.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from ttr.apps.service.messages import DATA, JOIN, whole_body, with_json

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: How the library says that a stream has ended.
END = b'data: {"msg":"close_stream"'
#: Seconds that a script may take to hear it; a page that is gone is not waited for longer.
PATIENCE = 10.0


class Streams:
    """Let a session hear that its question was taken when no stream of its own is about to end.

    Args:
        app: what answers, the sessions in its requests being each one visitor's own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._ending: dict[str, asyncio.Event] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        path = scope["path"] if scope["type"] == "http" else ""
        if path == DATA:
            await self._stream(scope, receive, send)
        elif path == JOIN:
            await self._join(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
        heard = asyncio.Event()
        plain = {**scope, "headers": [each for each in scope["headers"] if each[0] != b"accept-encoding"]}

        async def sent(message: Message) -> None:
            body = message.get("body", b"")
            if body.startswith(END):
                self._ending[session] = heard
            elif not message.get("more_body", True) and self._ending.get(session) is heard:
                await _let_go(receive)
            await send(message)

        try:
            await self.app(plain, receive, sent)
        finally:
            heard.set()
            if self._ending.get(session) is heard:
                del self._ending[session]

    async def _join(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await whole_body(receive)
        if body is None:
            return
        session = json.loads(body)["session_hash"]

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start" and session in self._ending:
                await self._ending[session].wait()
            await send(message)

        await self.app(*with_json(scope, receive, body), sent)


async def _let_go(receive: Receive) -> None:
    """Wait until a script has let go of its stream."""

    async def left() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    with suppress(TimeoutError, asyncio.TimeoutError):
        await asyncio.wait_for(left(), PATIENCE)
