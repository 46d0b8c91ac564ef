"""What stands before the widget library: who may ask, for what, and what goes out with every answer.

A request that a browser sends for a page elsewhere (another site, another port of this machine) is refused
before anything is read or done; what such a page may still do is link to this one.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ttr.apps.service.address import Address
from ttr.apps.service.messages import (
    API,
    CANCEL,
    FILE,
    HEARTBEAT,
    JOIN,
    PREDICT,
    RESET,
    UPLOAD,
    refuse,
)
from ttr.apps.service.pictures import PICTURES

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: All that the page's own script asks for. Whatever else the widget library offers is closed.
OPEN = frozenset(
    (
        *("/", "/healthz", "/login", "/logout", "/config", "/theme.css", "/favicon.ico", "/robots.txt"),
        *(
            "/manifest.json",
            UPLOAD,
            f"{API}/upload_progress",
            JOIN,
            f"{API}/queue/data",
            PREDICT,
            CANCEL,
            RESET,
        ),
        *(f"{API}/app_id", f"{API}/theme.css"),
    )
)
STATIC = ("/assets/", "/static/", "/svelte/")
OPEN_BELOW = (*STATIC, f"{FILE}=", HEARTBEAT, PICTURES)
#: What is the same for everybody, and may be kept by a browser.
KEPT = frozenset(("/theme.css", f"{API}/theme.css", "/favicon.ico", "/robots.txt"))
#: What a proxy says of a request, and the widget library would believe of anybody.
HEARSAY = (b"x-forwarded", b"forwarded", b"x-real-ip", b"x-gradio-server")
#: Files are answered whole: of some lists of parts the widget library fails.
PARTS = (b"range", b"if-range")
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "font-src 'self' data:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "frame-ancestors 'none'; base-uri 'self'; form-action 'self'; object-src 'none'"
)
HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass(frozen=True)
class Parts:
    """What a page is made of: all that its own script asks for.

    Attributes:
        open: paths.
        below: what other paths begin with.
        static: what such paths begin with that are the same for everybody.
        kept: paths that are the same for everybody.
        policy: where the page's parts may come from.
    """

    open: frozenset[str] = OPEN
    below: tuple[str, ...] = OPEN_BELOW
    static: tuple[str, ...] = STATIC
    kept: frozenset[str] = KEPT
    policy: str = POLICY


class Guard:
    """Refuse what no visitor of this page would ask, and seal what is answered.

    Args:
        app: what is behind the guard.
        address: where the page is.
        parts: what it is made of; None: the page of images before and after.
        command: what opened it, for refusals.
    """

    def __init__(
        self, app: ASGIApp, address: Address, parts: Parts | None = None, command: str = "ttr app"
    ) -> None:
        self.app = app
        self.address = address
        self.parts = parts or Parts()
        self.command = command

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        from starlette.responses import RedirectResponse

        if scope["type"] == "websocket":  # the page opens none
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] != "http":
            await self.app(scope, receive, send)
        elif self.address.root and scope["path"] == self.address.root:
            await RedirectResponse(f"{self.address.root}/", 308)(scope, receive, send)
        else:
            scope = self._as_seen(scope)
            refused, sealed = self._refused(scope), self._sealed(scope, send)
            if refused:
                await refuse(scope, receive, sealed, *refused, {"Connection": "close"})
            else:
                await self.app(scope, receive, sealed)

    def _as_seen(self, scope: Scope) -> Scope:
        """Return a request as the page sees it: without the path ahead, and without hearsay."""
        told = [value for name, value in scope["headers"] if name.lower() == b"x-forwarded-for"]
        headers = [
            each
            for each in scope["headers"]
            if not each[0].lower().startswith(HEARSAY) and each[0].lower() not in PARTS
        ]
        seen = {**scope, "headers": headers}
        ahead = f"{self.address.root}/"
        if self.address.root and scope["path"].startswith(ahead):
            seen["path"] = scope["path"][len(ahead) - 1 :]
            seen["raw_path"] = scope.get("raw_path", b"")[len(ahead) - 1 :]
        if self.address.public:
            seen["scheme"] = self.address.public.partition(":")[0]
            if client := _last_address(told):
                seen["client"] = (client, 0)
        return seen

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        from starlette.datastructures import Headers

        headers, path = Headers(scope=scope), scope["path"]
        if not self.address.answers_to(headers.get("host", "")):
            return 421, f"This page is not served under that name; see --public-url of {self.command}."
        if self._foreign(scope, headers):
            return 403, "This page answers itself alone; open it in a tab of its own."
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "This page is asked with GET, HEAD or POST."
        named_elsewhere = path.lower().startswith(f"{FILE}=http")
        if (path not in self.parts.open and not path.startswith(self.parts.below)) or named_elsewhere:
            return 404, "This page has no such part."
        return None

    def _foreign(self, scope: Scope, headers: Any) -> bool:
        """Return whether a browser says that a page elsewhere asks; a plain link to this page is none."""
        sources = headers.getlist("origin")
        if sources:
            name = headers.get("host", "")
            return not all(self.address.owns(source, scope["scheme"], name) for source in sources)
        if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
            return False
        link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        return not (link and scope["path"] == "/" and scope["method"] in ("GET", "HEAD"))

    def _sealed(self, scope: Scope, send: Send) -> Send:
        """Return ``send`` with the page's own headers, and without leave for anybody elsewhere."""
        from starlette.datastructures import MutableHeaders

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                secure = scope["scheme"] == "https"
                message["headers"] = [
                    (name, _own_cookie(value, secure) if name.lower() == b"set-cookie" else value)
                    for name, value in message.get("headers", [])
                    if not name.lower().startswith(b"access-control-")
                ]
                headers = MutableHeaders(scope=message)
                headers.update({**HEADERS, "Content-Security-Policy": self.parts.policy})
                kept = self.parts.kept
                if scope["path"] not in kept and not scope["path"].startswith(self.parts.static):
                    headers["Cache-Control"] = "no-store"
                if headers.get("content-type", "").startswith("text/event-stream"):
                    headers["X-Accel-Buffering"] = "no"  # a proxy hands each event on as it comes
            await send(message)

        return sealed


def _last_address(told: list[bytes]) -> str | None:
    """Return what the nearest proxy says whom it answers: the last of all that was told."""
    last = b",".join(told).rpartition(b",")[2].strip().decode("latin-1")
    try:
        return str(ipaddress.ip_address(last))
    except ValueError:
        return None


def _own_cookie(cookie: bytes, secure: bool) -> bytes:
    """Return a cookie that no script reads, no other site sends (but a link), and no open line carries."""
    parts = [part.strip() for part in cookie.split(b";")]
    dropped = (b"samesite", b"secure", b"httponly")
    kept = [part for part in parts if not part.lower().startswith(dropped)]
    site = b"Strict" if b"samesite=strict" in map(bytes.lower, parts) else b"Lax"
    return b"; ".join([*kept, b"HttpOnly", b"SameSite=" + site, *([b"Secure"] if secure else [])])
