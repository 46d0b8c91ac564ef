"""Who is who among the page's visitors, and what each may name: nothing that is another's.

The widget library takes whoever knows a session's name or a file's path for its owner. Here a visitor is a
random secret in a cookie. Ahead of the library each request is rewritten: names that the page makes up
(sessions, uploads on their way) are put behind the visitor's own, so that nobody can name another's; paths
that are not the visitor's lead nowhere (:mod:`ttr.apps.image.uploads`).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from ttr.apps.image.uploads import ABSENT, QuotaError, Uploads
from ttr.apps.service.messages import FILE, HEARTBEAT, UPLOAD, refuse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Names that a page makes up, and how they may look.
MADE_UP, NAME = ("session_hash", "upload_id"), re.compile(r"[\w-]{1,64}", re.ASCII)
SECRET = re.compile(r"[\w-]{43}", re.ASCII)
#: Bytes of a refused upload that are read, so that the refusal is heard.
DRAINED = 256 * 2**20
#: Seconds between two looks for files that have had their time.
SWEPT = 600
#: A link elsewhere leads here without the cookie; a page that asks once more for itself has it.
ONCE_MORE = "here"
AGAIN = (
    "<!doctype html><title>Test-time registers</title>"
    f'<meta http-equiv="refresh" content="0; url=?{ONCE_MORE}">'
)


@dataclass(frozen=True)
class Visitor:
    """Who asks, as the page's events find it in ``request.state.visitor``."""

    name: str
    uploads: Uploads

    def export(self, name: str, content: bytes) -> Path:
        """Write a file for this visitor alone; see :meth:`ttr.apps.image.uploads.Uploads.export`."""
        return self.uploads.export(self.name, name, content)

    def scoped(self, name: Any) -> str:
        """Return the visitor's own form of a name that a page made up.

        Raises:
            ValueError: it is no such name.
        """
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError("no name of a session or of an upload")
        return f"{self.name}-{name}"

    def rewritten(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return the JSON values of a request in which every session and every path is the visitor's.

        A path that is not leads nowhere.

        Raises:
            ValueError: the session cannot be one.
        """
        found = self._with_own_paths(asked)
        if found.get("session_hash") is not None:
            found["session_hash"] = self.scoped(found["session_hash"])
        return found

    def _with_own_paths(self, asked: Any) -> Any:
        if isinstance(asked, list):
            return [self._with_own_paths(each) for each in asked]
        if not isinstance(asked, dict):
            return asked
        found = {key: self._with_own_paths(value) for key, value in asked.items()}
        if "path" in found:
            found["path"] = self.uploads.safe(self.name, str(found["path"]))
        return found


class Visitors:
    """Tell visitors apart, ahead of the widget library."""

    def __init__(self, app: ASGIApp, uploads: Uploads) -> None:
        self.app = app
        self.uploads = uploads
        # Pages on other ports of a machine share its cookies: each has a name of its own.
        self.cookie = f"ttr-visitor-{secrets.token_hex(4)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on as its visitor may ask it."""
        from starlette.requests import HTTPConnection
        from starlette.responses import HTMLResponse

        if scope["type"] == "lifespan":
            return await self._swept(scope, receive, send)
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        asked = HTTPConnection(scope)
        secret = asked.cookies.get(self.cookie, "")
        if not SECRET.fullmatch(secret):
            linked = asked.headers.get("sec-fetch-site") == "cross-site" and scope["method"] == "GET"
            if linked and ONCE_MORE not in asked.query_params:
                return await HTMLResponse(AGAIN)(scope, receive, send)
            secret = secrets.token_urlsafe(32)
            send = self._introduced(send, secret, scope["scheme"] == "https")
        name = f"visitor-{hashlib.sha256(secret.encode()).hexdigest()[:32]}"
        visitor = Visitor(name, self.uploads)
        state = {**scope.get("state", {}), "visitor": visitor}
        await self._answered(visitor, {**scope, "state": state}, receive, send)

    async def _answered(self, visitor: Visitor, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        try:
            scope = _scoped(visitor, path, scope)
        except ValueError:
            await refuse(scope, receive, send, 400, "The page does not ask like this; load it again.")
            return
        if path.startswith(FILE) and not visitor.uploads.owns(visitor.name, path[len(FILE) + 1 :]):
            await refuse(scope, receive, send, 404, f"This file {ABSENT}.")
        elif scope["method"] == "POST" and path == UPLOAD:
            await self._uploaded(visitor, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _uploaded(self, visitor: Visitor, scope: Scope, receive: Receive, send: Send) -> None:
        """Let an upload in if there is room for it, and make what arrived the visitor's."""
        from starlette.datastructures import Headers
        from starlette.responses import PlainTextResponse, Response

        length = Headers(scope=scope).get("content-length", "")
        if not re.fullmatch(r"\d{1,12}", length):
            return await PlainTextResponse("An upload says its length.", 411)(scope, receive, send)
        plain = {**scope, "headers": [each for each in scope["headers"] if each[0] != b"accept-encoding"]}
        started = False
        try:
            with ExitStack() as room:
                coming = self.uploads.coming(visitor.name, int(length))
                await asyncio.to_thread(room.enter_context, coming)
                started = True
                start, body = await _captured(self.app, plain, receive)
                if start["status"] == 200:
                    arrived = await asyncio.to_thread(self.uploads.take, visitor.name, json.loads(body))
                    body = json.dumps(arrived).encode()
            kind = Headers(raw=start["headers"]).get("content-type")
            answer = Response(body, start["status"], media_type=kind)
        except QuotaError as error:
            # The page shows the answer's text as it is, after its number.
            answer = PlainTextResponse(f"{str(error)[:1].upper()}{str(error)[1:]}.", error.status)
            if not started:
                await _drained(receive)
        except TypeError:  # the library takes a field without a file's name for a file
            answer = PlainTextResponse("An upload is a form of named files; send one.", 400)
        await answer(scope, receive, send)

    def _introduced(self, send: Send, secret: str, secure: bool) -> Send:
        cookie = f"{self.cookie}={secret}; HttpOnly; Path=/; SameSite=Strict{'; Secure' if secure else ''}"

        async def introduced(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", []), (b"set-cookie", cookie.encode())]
                message = {**message, "headers": headers}
            await send(message)

        return introduced

    async def _swept(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def again_and_again() -> None:
            while True:
                await asyncio.sleep(SWEPT)
                await asyncio.to_thread(self.uploads.sweep)

        sweeping = asyncio.create_task(again_and_again())
        try:
            await self.app(scope, receive, send)
        finally:
            sweeping.cancel()


def _scoped(visitor: Visitor, path: str, scope: Scope) -> Scope:
    """Return a request whose query and path name nothing but the visitor's own sessions and uploads.

    Raises:
        ValueError: what they name cannot be a session or an upload.
    """
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    if any(key in MADE_UP for key, _ in query):
        own = [(key, visitor.scoped(value) if key in MADE_UP else value) for key, value in query]
        scope = {**scope, "query_string": urlencode(own).encode()}
    if path.startswith(HEARTBEAT):
        ahead = scope["path"].removesuffix(path)
        named = ahead + HEARTBEAT + visitor.scoped(path.removeprefix(HEARTBEAT))
        scope = {**scope, "path": named, "raw_path": named.encode()}
    return scope


async def _captured(app: ASGIApp, scope: Scope, receive: Receive) -> tuple[Message, bytes]:
    """Run an application and return how its answer starts, and its body."""
    said: list[Message] = []

    async def send(message: Message) -> None:
        said.append(message)

    await app(scope, receive, send)
    return said[0], b"".join(message.get("body", b"") for message in said[1:])


async def _drained(receive: Receive) -> None:
    """Read what still comes, within bounds: a browser hears an answer once it has said all."""
    read = 0
    while read < DRAINED and (message := await receive())["type"] == "http.request":
        read += len(message.get("body", b""))
        if not message.get("more_body"):
            return
